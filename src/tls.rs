//! TLS as a client: the process's cryptography, and the form in which somebody decides whom to trust.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

/// What a server shows to prove who it is.
pub struct Presented<'a> {
    pub certificate: &'a CertificateDer<'a>,
    pub intermediates: &'a [CertificateDer<'a>],
    /// Who was to be reached.
    pub name: &'a ServerName<'a>,
    pub ocsp: &'a [u8],
    pub now: UnixTime,
}

/// Whom to trust. That a server holds the key of its certificate is seen to by [`client`].
pub trait Trust: Debug + Send + Sync + 'static {
    /// Is this the certificate of who was to be reached?
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error>;
}

impl Trust for Arc<dyn ServerCertVerifier> {
    fn judge(&self, presented: &Presented<'_>) -> Result<(), rustls::Error> {
        let &Presented { certificate, intermediates, name, ocsp, now } = presented;
        self.verify_server_cert(certificate, intermediates, name, ocsp, now).map(|_| ())
    }
}

/// How a client behaves that trusts these.
pub fn client(trust: impl Trust) -> io::Result<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.dangerous();
    Ok(builder.with_custom_certificate_verifier(Arc::new(Verifier { trust, provider })).with_no_client_auth())
}

/// The process's provider of cryptography: the first caller sets it, whoever comes later finds it set.
pub fn provider() -> Arc<CryptoProvider> {
    static SET: OnceLock<()> = OnceLock::new();
    SET.get_or_init(|| {
        // Another part of the process may have set it; any is good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// Trusts whom the system trusts. Reading its certificates takes milliseconds and a megabyte: once, when it is needed.
pub fn system() -> io::Result<Arc<dyn ServerCertVerifier>> {
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

#[derive(Debug)]
struct Verifier<T> {
    trust: T,
    provider: Arc<CryptoProvider>,
}

impl<T: Trust> ServerCertVerifier for Verifier<T> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.trust.judge(&Presented { certificate, intermediates, name, ocsp, now })?;
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
