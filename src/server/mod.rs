//! Speaks HTTP and TCP.
