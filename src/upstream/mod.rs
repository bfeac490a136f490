//! Whom do we ask? The servers that know what is not known here.

pub mod system;
