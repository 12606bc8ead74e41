//! Keeps the answers of queries and serves them to SELECT and subscribers.
