//! What is the answer? The way from a question to a message.
//!
//! Start with [`answer`]: the discovery domain, from a snapshot of the catalog alone.

pub mod answer;
