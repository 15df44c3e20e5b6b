//! What is said to agents by the Agent Client Protocol, and what is read of what they say, against the protocol's own types: see
//! `tests/schema.rs`.
