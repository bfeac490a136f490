//! A certificate, a configuration that shows it, and clients that trust it: TLS, QUIC, `kdig`, `curl`, stubby.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use quinn::crypto::rustls::QuicClientConfig;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PublicKeyData};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tools::run;
use super::{dns, free_port, within};

/// The name in the certificates.
pub(crate) const NAME: &str = "dns.example";

/// A certificate and its key, from an authority of its own, in files that a server is started with.
pub(crate) struct Certificate {
    /// `cert.pem`.
    pub(crate) chain: PathBuf,
    /// `key.pem`.
    pub(crate) key: PathBuf,
    /// The authority's certificate: `ca.pem`.
    pub(crate) authority: PathBuf,
    /// Of the key, as upstreams are written with it.
    pub(crate) pin: String,
}

impl Certificate {
    /// For rollcall, written over what is there.
    pub(crate) fn write(directory: &Path) -> Self {
        Self::of(directory, [NAME, "127.0.0.1"])
    }

    pub(crate) fn of<const N: usize>(directory: &Path, names: [&str; N]) -> Self {
        let mut authority = CertificateParams::new([]).expect("no names");
        authority.distinguished_name.push(DnType::CommonName, "the tests' authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signer = KeyPair::generate().expect("a key");
        let root = authority.self_signed(&signer).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names.map(str::to_owned)).expect("names");
        let certificate = params.signed_by(&key, &Issuer::new(authority, signer)).expect("a certificate");
        let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
        let pin = format!("sha256/{}", base64::engine::general_purpose::STANDARD.encode(digest));
        let write = |file: &str, text: String| {
            let path = directory.join(file);
            fs::write(&path, text).expect("written");
            path
        };
        let authority = write("ca.pem", root.pem());
        Self { chain: write("cert.pem", certificate.pem()), key: write("key.pem", key.serialize_pem()), authority, pin }
    }

    /// What a client has to trust its authority and nobody else.
    pub(crate) fn client(&self, protocol: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority).expect("a certificate")).expect("it can be trusted");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions of TLS");
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        config
    }

    pub(crate) async fn tls(&self, server: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(server).await?;
        let connector = TlsConnector::from(Arc::new(self.client("dot")));
        connector.connect(ServerName::try_from(NAME).expect("a name"), stream).await
    }

    pub(crate) async fn quic(
        &self,
        server: SocketAddr,
        protocol: &str,
    ) -> Result<(quinn::Endpoint, quinn::Connection), quinn::ConnectionError> {
        let mut tls = self.client(protocol);
        // It is for the server to refuse it.
        tls.enable_early_data = true;
        let crypto = QuicClientConfig::try_from(tls).expect("TLS 1.3");
        let mut endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a UDP socket");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connection = endpoint.connect(server, NAME).expect("a good configuration").await?;
        Ok((endpoint, connection))
    }
}

/// A section that binds all three ways, and a name that is answered.
pub(crate) fn configure(directory: &Path, more: &str) -> PathBuf {
    let file = directory.join("rollcall.toml");
    let text = format!(
        "[dns]\n{more}\n[dns.encrypted]\ntls = [\"127.0.0.1:0\"]\nhttps = [\"127.0.0.1:0\"]\nquic = [\"127.0.0.1:0\"]\n\
         certificate = \"cert.pem\"\nkey = \"key.pem\"\nname = \"{NAME}\"\n\
         [forward]\nupstreams = []\n[[record]]\nname = \"www.example.net\"\ntype = \"A\"\nvalue = \"127.0.0.1\"\nttl = 77\n"
    );
    fs::write(&file, text).expect("written");
    file
}

/// A query for A, with an OPT record that has these options.
pub(crate) fn query(id: u16, name: &str, options: &[u16]) -> Vec<u8> {
    let mut query = Message::query();
    query.metadata.id = id;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    let mut edns = Edns::new();
    options.iter().for_each(|code| edns.options_mut().insert(EdnsOption::Unknown(*code, Vec::new())));
    query.edns = Some(edns);
    query.to_vec().expect("it can be written")
}

/// Behind its length, as on streams.
pub(crate) fn framed(octets: &[u8]) -> Vec<u8> {
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), octets: &[u8]) {
    to.write_all(&framed(octets)).await.expect("it is taken");
    to.flush().await.expect("it is taken");
}

pub(crate) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> Message {
    let length = from.read_u16().await.expect("an answer");
    let mut octets = vec![0; usize::from(length)];
    from.read_exact(&mut octets).await.expect("a whole answer");
    Message::from_vec(&octets).expect("a DNS message")
}

/// `kdig @server` with these words.
pub(crate) fn kdig(server: SocketAddr, words: &str) -> String {
    let mut command = Command::new("kdig");
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "+time=5", "+retry=1"]);
    run(command.args(words.split_whitespace())).ok()
}

/// `curl` with these words, over TLS to whom it need not trust.
pub(crate) fn curl(words: &str) -> String {
    run(Command::new("curl").args(["-sSk", "--noproxy", "*", "--max-time", "10"]).args(words.split_whitespace())).ok()
}

/// stubby, a stub resolver that asks over TLS only and checks the name; ended when dropped.
pub(crate) struct Stubby {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Stubby {
    pub(crate) fn start(directory: &Path, server: SocketAddr, certificate: &Certificate) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = directory.join("stubby.yml");
        let config = format!(
            "resolution_type: GETDNS_RESOLUTION_STUB\ndns_transport_list:\n  - GETDNS_TRANSPORT_TLS\n\
             tls_authentication: GETDNS_AUTHENTICATION_REQUIRED\ntls_query_padding_blocksize: 128\nidle_timeout: 9000\n\
             tls_ca_file: \"{}\"\nappdata_dir: \"{}\"\nlisten_addresses:\n  - 127.0.0.1@{}\nupstream_recursive_servers:\n  \
             - address_data: 127.0.0.1\n    tls_port: {}\n    tls_auth_name: \"{NAME}\"\n",
            certificate.authority.display(),
            directory.display(),
            address.port(),
            server.port()
        );
        fs::write(&file, config).expect("written");
        let log = fs::File::create(directory.join("stubby.log")).expect("a log");
        let mut command = Command::new("stubby");
        command.arg("-C").arg(&file).arg("-l").stdin(Stdio::null()).stderr(log).stdout(Stdio::null());
        let child = command.spawn().expect("stubby starts; scripts/test installs it");
        let stubby = Self { child, address };
        within(Duration::from_secs(20), "stubby answers", || {
            let said = || fs::read_to_string(directory.join("stubby.log")).unwrap_or_default();
            match dns::udp_within(address, "www.example.net", "A", Duration::from_secs(2)) {
                Ok(reply) if !reply.answers().is_empty() => Ok(()),
                other => Err(format!("{other:?}\n{}", said())),
            }
        });
        stubby
    }
}

impl Drop for Stubby {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
