//! What is the answer? The way from a question to a message.

pub mod local;
mod presentation;
pub mod zone;
