//! Sessions as byte exchanges.
