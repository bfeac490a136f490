//! Who asks us in DNS? One file a listener; all of them hand octets to the [`Responder`] and send back what it says.
//!
//! Start with [`Responder::answer`]: one query, from octets to octets.

mod batch;
mod bind;
mod certificate;
mod encrypted;
mod hop;
mod http3;
mod https;
mod proxy;
mod quic;
mod relay;
mod responder;
mod seats;
mod tcp;
mod udp;

use std::io;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::runtime::Handle;

use self::tcp::{Protocol, Reception};

pub use bind::{BindError, Bound, Holder, bind_dns, bind_http};
pub use certificate::Certificates;
pub use encrypted::{Config, Encrypted, EncryptedError, Way, renew};
pub use responder::{Responder, Setup};

/// What answers.
pub struct Listeners {
    endpoints: Vec<quinn::Endpoint>,
}

impl Listeners {
    /// Tells those who would not see from the end of the process that it is the end.
    pub async fn close(&self) {
        quic::close(&self.endpoints).await;
    }
}

/// Starts answering on bound sockets. Needs a tokio runtime around it.
pub fn serve(
    bound: Vec<Bound>,
    encrypted: Option<Encrypted>,
    proxies: &[IpNet],
    responder: &Arc<Responder>,
) -> io::Result<Listeners> {
    let runtime = Handle::current();
    let (seats, proxies) = (Arc::default(), proxies.to_vec());
    let reception = Arc::new(Reception { responder: responder.clone(), seats, proxies });
    for Bound { udp, tcp, .. } in bound {
        for socket in udp {
            udp::serve(socket, responder.clone(), runtime.clone())?;
        }
        let listener = tokio::net::TcpListener::from_std(tcp)?;
        runtime.spawn(tcp::serve(listener, Protocol::Dns, reception.clone()));
    }
    let endpoints = encrypted.map(|encrypted| encrypted.serve(&reception)).transpose()?.unwrap_or_default();
    Ok(Listeners { endpoints })
}
