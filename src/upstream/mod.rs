//! Whom do we ask? The servers that know what is not known here.
//!
//! What to do is decided in `resolve::forward`; here are the sockets, and the driver between the two. Start with
//! [`Forwarder`].

mod address;
mod forwarder;
mod keep;
pub mod system;
mod tally;
mod tcp;
mod udp;

pub use self::udp::GUESSED_AT;
pub use address::{Host, Upstream};
pub use forwarder::{
    Answered, Config, Favourite, FirstAttempt, Forwarder, Kept, Route, Sequential, add_edns, carries_more, truncated,
    write_kept,
};
pub use tally::Counters;
