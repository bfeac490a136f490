//! The certificate that encrypted listeners show: read and judged before anything is bound, and read again when its files
//! change. Connections, and handshakes under way, go on with the one that they began with.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore, ServerConfig};

use crate::limits::CERTIFICATE_OCTETS_MAX;
use crate::problem::Problem;
use crate::watch::Watch;

/// How long files must be quiet before they are read: a certificate and its key are replaced one after the other.
const QUIET: Duration = Duration::from_millis(500);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a certificate is, and for which name it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) name: Option<String>,
}

/// The certificate in force.
#[derive(Debug)]
pub(super) struct Certificates {
    current: ArcSwap<CertifiedKey>,
    files: Mutex<Files>,
    /// Tells whoever watches the files that they are others now.
    moved: tokio::sync::Notify,
}

impl Certificates {
    pub(super) fn open(files: Files) -> Result<Arc<Self>, Problem> {
        let (key, _) = read(&files)?;
        let current = ArcSwap::from_pointee(key);
        Ok(Arc::new(Self { current, files: Mutex::new(files), moved: tokio::sync::Notify::new() }))
    }

    /// What a listener needs that speaks these protocols.
    pub(super) fn server_config(self: &Arc<Self>, protocols: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        // Who comes again shows a ticket, so that no session has to be remembered here. Early data stays off, since it could be
        // sent by others again.
        config.ticketer = ring::Ticketer::new()?;
        Ok(config)
    }

    /// Takes the certificate of these files, or tells why the one in force stays.
    pub(super) fn renew(&self, files: Files) {
        let mut held = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if *held != files {
            *held = files;
            self.moved.notify_one();
        }
        match read(&held) {
            Ok((key, _)) if key.cert == self.current.load().cert => {}
            Ok((key, warnings)) => {
                self.current.store(Arc::new(key));
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                tracing::info!("{}: new connections get this certificate from now on", held.certificate.display());
            }
            Err(problem) => tracing::error!("{problem}; the certificate in force stays"),
        }
    }

    fn files(&self) -> Files {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the files anew whenever they change, for as long as the process lives.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut watch = match Watch::new() {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!("the certificate is not watched: {error}; send SIGHUP to have it read again");
                return;
            }
        };
        loop {
            let files = self.files();
            watch.over([&files.certificate, &files.key].into_iter().map(PathBuf::as_path));
            tokio::select! {
                () = watch.changed() => {}
                () = self.moved.notified() => continue,
            }
            watch.quiet(QUIET, PATIENCE).await;
            let renewed = self.clone();
            // They may be on a slow disk, which the runtime's threads have no time for.
            let _ = tokio::task::spawn_blocking(move || renewed.renew(renewed.files())).await;
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Reads a certificate and its key. What clients will find wrong with it is a warning.
pub(super) fn read(files: &Files) -> Result<(CertifiedKey, Vec<Problem>), Problem> {
    let certificate = |problem: Problem| problem.in_file(&files.certificate);
    let key_problem = |problem: Problem| problem.in_file(&files.key);
    let text = octets(&files.certificate).map_err(|error| {
        certificate(Problem::new(format!("expected a readable file with a certificate, got: {error}")))
            .hint("`certificate` of [dns.encrypted] names it")
    })?;
    let chain: Result<Vec<CertificateDer<'static>>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| certificate(Problem::new(format!("expected PEM, got: {error}"))))?;
    let Some(own) = chain.first() else {
        let problem = Problem::new("expected a certificate in PEM form, got none");
        return Err(certificate(problem).hint("it stands between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"));
    };
    let text = octets(&files.key).map_err(|error| {
        key_problem(Problem::new(format!("expected a readable file with a private key, got: {error}")))
            .hint("`key` of [dns.encrypted] names it; it has to be readable for the user that rollcall runs as")
    })?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let got = match error {
            pem::Error::NoItemsFound => "none".to_owned(),
            error => error.to_string(),
        };
        key_problem(Problem::new(format!("expected a private key in PEM form without a password, got: {got}")))
            .hint("`openssl pkey -in FILE` writes one so")
    })?;
    let warnings = warnings(files, &chain).map_err(|error| {
        let problem =
            Problem::new(format!("expected a certificate of version 3 (X.509), got one that cannot be read: {error}"));
        certificate(problem).hint("`openssl x509 -in FILE -noout -text` shows what is in it")
    })?;
    let key = CertifiedKey::from_der(vec![own.clone()], key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => key_problem(Problem::new(format!(
            "expected the key of the first certificate in {}, got another one",
            files.certificate.display()
        )))
        .hint("the server's own certificate stands first, behind it those of its issuers"),
        error => key_problem(Problem::new(format!("expected an RSA, ECDSA or Ed25519 key, got: {error}"))),
    })?;
    Ok((CertifiedKey { cert: chain, ..key }, warnings))
}

/// What clients will find wrong with a certificate that can be shown.
fn warnings(files: &Files, chain: &[CertificateDer<'_>]) -> Result<Vec<Problem>, rustls::Error> {
    let mut warnings = Vec::new();
    let mut warn = |message: String, hint: &str| {
        warnings.push(Problem::new(message).in_file(&files.certificate).hint(hint).warning());
    };
    let nobody = RootCertStore::empty();
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    for (number, certificate) in (1..).zip(chain) {
        let certificate = ParsedCertificate::try_from(certificate)?;
        // As a client would: it looks at the time before it looks for whom to trust, and here there is nobody.
        let judged = verify_server_cert_signed_by_trust_anchor(&certificate, &nobody, &[], UnixTime::now(), algorithms);
        match judged {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                let message = format!("certificate {number} expired on {}", date(not_after));
                warn(message, "clients that verify it will refuse it; put a new one in its place, which is noticed at once");
            }
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                let message = format!("certificate {number} is not valid before {}", date(not_before));
                warn(message, "clients that verify it will refuse it until then; is the clock right?");
            }
            _ => {}
        }
        let name = files.name.as_ref().filter(|_| number == 1);
        if let Some((name, server)) = name.and_then(|name| Some((name, ServerName::try_from(name.as_str()).ok()?)))
            && verify_server_name(&certificate, &server).is_err()
        {
            let message =
                format!("expected a certificate for {name}, which is the `name` of [dns.encrypted]; got one for others");
            warn(message, "clients that are told of this server by that name will refuse it");
        }
    }
    Ok(warnings)
}

fn date(time: UnixTime) -> humantime::Rfc3339Timestamp {
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    humantime::format_rfc3339_seconds(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

fn octets(path: &Path) -> io::Result<Vec<u8>> {
    crate::file::read(path, CERTIFICATE_OCTETS_MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    /// A certificate for dns.test that was valid in these years, and its key, in files.
    fn files(years: (i32, i32)) -> (TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["dns.test".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        fs::write(path("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let files = Files { certificate: path("cert.pem"), key: path("key.pem"), name: Some("dns.test".into()) };
        (folder, files)
    }

    fn told(files: &Files) -> Vec<String> {
        match read(files) {
            Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect(),
            Err(problem) => vec![problem.to_string()],
        }
    }

    #[test]
    fn a_certificate_is_judged_as_clients_will() {
        let (_folder, mut good) = files((2020, 2120));
        assert!(told(&good).is_empty());
        good.name = Some("other.test".into());
        assert!(told(&good)[0].contains("expected a certificate for other.test"), "{:?}", told(&good));
        let (_folder, old) = files((2020, 2021));
        assert!(told(&old)[0].contains("certificate 1 expired on 2021-01-01T00:00:00Z"), "{:?}", told(&old));
        let (_folder, early) = files((2120, 2121));
        assert!(told(&early)[0].contains("is not valid before 2120-01-01"), "{:?}", told(&early));
    }

    #[test]
    fn what_cannot_be_shown_is_told() {
        let (_folder, good) = files((2020, 2120));
        let (_other, other) = files((2020, 2120));
        for (certificate, key, words) in [
            (&good.certificate, &other.key, "expected the key of the first certificate"),
            (&good.key, &good.key, "expected a certificate in PEM form, got none"),
            (&good.certificate, &good.certificate, "expected a private key in PEM form"),
        ] {
            let files = Files { certificate: certificate.clone(), key: key.clone(), name: None };
            assert!(told(&files)[0].contains(words), "{:?}", told(&files));
        }
        fs::write(&other.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        assert!(told(&other)[0].contains("cannot be read"), "{:?}", told(&other));
        fs::write(&other.certificate, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        assert!(told(&other)[0].contains("expected PEM"), "{:?}", told(&other));
    }
}
