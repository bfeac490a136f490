//! Whom do we trust? The certificates of upstreams, for every protocol that is encrypted.
//!
//! There is no way round it: a server that does not prove to be who it was written to be is told nothing.

use std::io;
use std::sync::Arc;

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Pin, Upstream};
use crate::limits::CERTIFICATE_OCTETS_MAX;
use crate::tls::{self, Presented, Trust};

/// How a client of this upstream is to behave, `alpn` the protocol that it speaks.
pub(super) fn client(upstream: &Upstream, alpn: Option<&[u8]>) -> io::Result<ClientConfig> {
    let chain = match &upstream.identity.ca {
        _ if upstream.is_pinned_only() => None,
        None => Some(tls::system()?),
        Some(file) => {
            let wrong = |what: String| io::Error::other(format!("expected certificates in {}, got {what}", file.display()));
            let mut roots = RootCertStore::empty();
            for certificate in authorities(file).map_err(wrong)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), tls::provider()).build();
            Some(verifier.map_err(io::Error::other)? as Arc<dyn ServerCertVerifier>)
        }
    };
    let mut config = tls::client(Identified { chain, pins: upstream.identity.pins.clone() })?;
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    Ok(config)
}

/// The certificates of a PEM file; at least one.
pub(super) fn authorities(file: &std::path::Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let octets = crate::file::read(file, CERTIFICATE_OCTETS_MAX).map_err(|error| error.to_string())?;
    match CertificateDer::pem_slice_iter(&octets).collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err("none".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// The name that a server has to prove.
pub(super) fn server_name(upstream: &Upstream) -> io::Result<ServerName<'static>> {
    ServerName::try_from(upstream.server_name()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// A TLS connection over a TCP connection.
pub(super) async fn handshake(
    stream: TcpStream,
    upstream: &Upstream,
    config: Arc<ClientConfig>,
) -> io::Result<Box<TlsStream<TcpStream>>> {
    TlsConnector::from(config).connect(server_name(upstream)?, stream).await.map(Box::new)
}

/// A certificate's chain and name, and the key that it is for.
#[derive(Debug)]
struct Identified {
    /// None when the key alone counts.
    chain: Option<Arc<dyn ServerCertVerifier>>,
    pins: Vec<Pin>,
}

impl Trust for Identified {
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.judge(presented)?;
        }
        // Only the server's own key: whoever it is can add certificates of others behind its own.
        if !self.pins.is_empty() {
            let key = ParsedCertificate::try_from(presented.certificate)?.subject_public_key_info();
            let digest = digest::digest(&digest::SHA256, &key);
            if !self.pins.iter().any(|pin| pin.0 == digest.as_ref()) {
                let key = Pin(digest.as_ref().try_into().unwrap_or_default());
                return Err(rustls::Error::General(format!("expected a certificate whose key is pinned, got one with {key}")));
            }
        }
        Ok(())
    }
}
