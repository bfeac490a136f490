//! What is known now?
