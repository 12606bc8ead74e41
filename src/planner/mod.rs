//! Turns a query into a plan of operators, and explains it.
