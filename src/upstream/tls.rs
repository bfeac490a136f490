//! Whom do we trust? The certificates of upstreams, for every protocol that is encrypted.
//!
//! There is no way round it: a server that does not prove to be who it was written to be is told nothing.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{Pin, Upstream};
use crate::limits::CERTIFICATE_OCTETS_MAX;

/// How a client of this upstream is to behave, `alpn` the protocol that it speaks.
pub(super) fn client(upstream: &Upstream, alpn: Option<&[u8]>) -> io::Result<ClientConfig> {
    let provider = provider();
    let chain = match &upstream.identity.ca {
        _ if upstream.is_pinned_only() => None,
        None => Some(system()?),
        Some(file) => {
            let wrong = |what: String| io::Error::other(format!("expected certificates in {}, got {what}", file.display()));
            let mut roots = RootCertStore::empty();
            for certificate in authorities(file).map_err(wrong)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone()).build();
            Some(verifier.map_err(io::Error::other)? as Arc<dyn ServerCertVerifier>)
        }
    };
    let verifier = Verifier { chain, pins: upstream.identity.pins.clone(), provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = builder.with_no_client_auth();
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

fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// Trusts whom the system trusts. Reading its certificates takes milliseconds and a megabyte: once, when it is needed.
fn system() -> io::Result<Arc<dyn ServerCertVerifier>> {
    static SYSTEM: Mutex<Option<Arc<dyn ServerCertVerifier>>> = Mutex::new(None);
    let mut system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(verifier) = &*system {
        return Ok(verifier.clone());
    }
    let verifier: Arc<dyn ServerCertVerifier> =
        Arc::new(rustls_platform_verifier::Verifier::new(provider()).map_err(io::Error::other)?);
    *system = Some(verifier.clone());
    Ok(verifier)
}

/// Checks a certificate's chain and name, and the key that it is for.
#[derive(Debug)]
struct Verifier {
    /// None when the key alone counts.
    chain: Option<Arc<dyn ServerCertVerifier>>,
    pins: Vec<Pin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(certificate, intermediates, name, ocsp, now)?;
        }
        // Only the server's own key: whoever it is can add certificates of others behind its own.
        if !self.pins.is_empty() {
            let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
            let digest = digest::digest(&digest::SHA256, &key);
            if !self.pins.iter().any(|pin| pin.0 == digest.as_ref()) {
                let key = Pin(digest.as_ref().try_into().unwrap_or_default());
                return Err(rustls::Error::General(format!("expected a certificate whose key is pinned, got one with {key}")));
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
