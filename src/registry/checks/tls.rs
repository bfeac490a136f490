//! TLS towards what is checked.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::tls::{self, Presented, Trust};

/// Trusts whom the system trusts, or anybody.
pub(super) fn client(skip_verify: bool) -> io::Result<Arc<ClientConfig>> {
    // What it remembers of servers makes the next handshakes short.
    static TRUSTING_THE_SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if skip_verify {
        return tls::client(Anybody).map(Arc::new);
    }
    if let Some(config) = TRUSTING_THE_SYSTEM.get() {
        return Ok(config.clone());
    }
    let config = tls::client(tls::system()?).map(Arc::new)?;
    Ok(TRUSTING_THE_SYSTEM.get_or_init(|| config).clone())
}

/// Takes any certificate, whose owner still has to prove that it holds the key.
#[derive(Debug)]
struct Anybody;

impl Trust for Anybody {
    fn judge(&self, _: &Presented<'_>) -> Result<(), rustls::Error> {
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// A certificate for web.test that it signed itself, made for these tests, and its key.
    const CERTIFICATE: &str = concat!(
        "MIIBkzCCATigAwIBAgIUerFbehcRxnx1UiFrf7PiySX4pREwCgYIKoZIzj0EAwIwEzERMA8GA1UEAwwId2ViLnRlc3QwIBcN",
        "MjYxMTI0MDA0NjIyWhgPMjEyNjEwMzEwMDQ2MjJaMBMxETAPBgNVBAMMCHdlYi50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D",
        "AQcDQgAEmPvaP5C3ah/PdcjtFTmTZPoNwrazSc2EZxC1nlznJHeqy0+FPZfD5pNSxzDJ7o9IvZ8leDlKM80hFgQ5zxzgtaNo",
        "MGYwHQYDVR0OBBYEFGyTkW7EZbSWmiyeQFVGgGpNcH7tMB8GA1UdIwQYMBaAFGyTkW7EZbSWmiyeQFVGgGpNcH7tMA8GA1Ud",
        "EwEB/wQFMAMBAf8wEwYDVR0RBAwwCoIId2ViLnRlc3QwCgYIKoZIzj0EAwIDSQAwRgIhAP2e9G1hiLm/tCF+yswXFss11LW9",
        "id7K76Y+gFCx3jt1AiEAnYNTPTNxrBakiCnZw5TDwpW+DHg5FBfr5Ba+qGAeJog=",
    );
    const KEY: &str = concat!(
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgzfjD6Tb0VtlELsXgfiXHh6BDawMChJiuuZZB73t6kGihRANC",
        "AASY+9o/kLdqH891yO0VOZNk+g3CtrNJzYRnELWeXOckd6rLT4U9l8Pmk1LHMMnuj0i9nyV4OUozzSEWBDnPHOC1",
    );

    /// Answers each request over TLS with the name that the client asked the certificate of.
    pub(in crate::registry::checks) async fn server() -> SocketAddr {
        tls::provider();
        let certificate = CertificateDer::from(STANDARD.decode(CERTIFICATE).unwrap());
        let key = PrivateKeyDer::try_from(STANDARD.decode(KEY).unwrap()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let name = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        address
    }
}
