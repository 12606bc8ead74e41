//! Remembers what exists: streams, tables, queries, sinks, and their definitions.
