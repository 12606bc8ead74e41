//! Talks to a server from a terminal.
