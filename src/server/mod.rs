//! Who asks us in DNS? One file a listener; all of them hand octets to the [`Responder`] and send back what it says.
//!
//! Start with [`Responder::answer`]: one query, from octets to octets.

mod answers;
mod backlog;
mod batch;
mod bind;
mod certificate;
mod clients;
mod cookies;
mod encrypted;
mod explain;
mod files;
mod holder;
mod http3;
mod https;
mod interfaces;
mod listen;
mod listeners;
mod places;
mod prefetch;
mod proxy;
mod query_log;
mod quic;
mod relay;
mod responder;
mod seats;
mod serials;
mod setup;
mod status;
mod tally;
mod tcp;
mod trace;
mod transport;
mod udp;
mod worker;

pub use bind::{BindError, Holder, bind_http};
pub use clients::{Clients, Config as ClientsConfig, Network, networks_alone};
pub use cookies::{Cookies, Secrets};
pub use encrypted::{Config, Way};
#[doc(hidden)]
pub use https::asked_in_url;
pub use interfaces::Interfaces;
pub use listen::{Listen, ListenAddress, is_interface};
pub use listeners::{ListenError, Listeners, Waiting};
#[doc(hidden)]
pub use proxy::proxied;
pub use query_log::{Config as QueryLogConfig, Format as QueryLogFormat, QueryLog, Target as QueryLogTarget};
pub use responder::Responder;
pub use serials::Serials;
pub use setup::{Common, Parts, Setup};
pub use status::of_view;
