//! Asks a URL: 2xx is well, 429 is a warning, the rest is ill.
//!
//! Clients are kept by what they differ in, because one that speaks TLS costs the reading of the system's
//! certificates. Connections are never kept: whether a new one can be made is part of the question. Proxies of the
//! environment are passed by, since the health of an instance is not that of a proxy.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, ClientBuilder, Method, StatusCode, Url, redirect};

use super::output::Tail;
use super::{Outcome, tcp};
use crate::catalog::Health;
use crate::tls;

/// Octets of a body that are read at most; only the last few are kept.
const BODY_MAX: usize = 1024 * 1024;

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    /// Empty means GET.
    pub(super) method: &'a str,
    pub(super) header: &'a BTreeMap<String, Vec<String>>,
    pub(super) body: &'a str,
    pub(super) disable_redirects: bool,
    /// Empty means the host of the URL.
    pub(super) tls_server_name: &'a str,
    pub(super) tls_skip_verify: bool,
}

/// The clients, by whether they follow redirects and whether they verify certificates.
#[derive(Debug, Default)]
pub(super) struct Clients {
    kept: Mutex<BTreeMap<(bool, bool), Client>>,
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0:?} is no HTTP method")]
    Method(String),
    #[error("{0:?} is no HTTP header")]
    Header(String),
    #[error("expected an http:// or https:// URL: {0}")]
    Url(String),
    #[error("{0}")]
    Request(String),
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        // The causes say more than the error itself; the URL is told already.
        let error = error.without_url();
        let mut text = String::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            let separator = if text.is_empty() { "" } else { ": " };
            let _ = write!(text, "{separator}{error}");
            cause = error.source();
        }
        Fault::Request(if text.is_empty() { error.to_string() } else { text })
    }
}

impl Clients {
    pub(super) async fn run(&self, request: Request<'_>, timeout: Duration, output_max: usize) -> Outcome {
        let method = if request.method.is_empty() { "GET" } else { request.method };
        match tokio::time::timeout(timeout, self.ask(method, request, output_max)).await {
            Ok(Ok((status, body))) => {
                let output = format!("HTTP {method} {}: {status} Output: {body}", request.url);
                Outcome { health: health(status), output }
            }
            Ok(Err(fault)) => Outcome::critical(format!("HTTP {method} {}: {fault}", request.url)),
            Err(_) => Outcome::critical(format!("HTTP {method} {}: no answer within {timeout:?}", request.url)),
        }
    }

    async fn ask(&self, method: &str, request: Request<'_>, output_max: usize) -> Result<(StatusCode, String), Fault> {
        let mut url = Url::parse(request.url).map_err(|error| Fault::Url(error.to_string()))?;
        let mut headers = headers(request.header)?;
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Method(method.to_owned()))?;
        let client = if request.tls_server_name.is_empty() || url.scheme() != "https" {
            self.client(request.disable_redirects, request.tls_skip_verify)?
        } else {
            under_another_name(&mut url, &mut headers, request).await?
        };
        let mut response = client.request(method, url).headers(headers).body(request.body.to_owned()).send().await?;
        let status = response.status();
        let mut body = Tail::new(output_max);
        // A body that breaks off does not change what the status said.
        while body.total() < BODY_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.push(&chunk);
        }
        Ok((status, body.text()))
    }

    fn client(&self, disable_redirects: bool, skip_verify: bool) -> Result<Client, Fault> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = kept.get(&(disable_redirects, skip_verify)) {
            return Ok(client.clone());
        }
        let client = builder(disable_redirects, skip_verify).build()?;
        kept.insert((disable_redirects, skip_verify), client.clone());
        Ok(client)
    }
}

fn builder(disable_redirects: bool, skip_verify: bool) -> ClientBuilder {
    tls::provider();
    let redirects = if disable_redirects { redirect::Policy::none() } else { redirect::Policy::limited(10) };
    Client::builder()
        .pool_max_idle_per_host(0)
        .http1_only()
        .no_proxy()
        .redirect(redirects)
        .tls_danger_accept_invalid_certs(skip_verify)
}

/// A client that connects to the URL's host but asks for, and verifies, the certificate of `tls_server_name`: the URL
/// gets that name, which is bound to the host's address, and the header `Host` keeps the URL's own.
async fn under_another_name(url: &mut Url, headers: &mut HeaderMap, request: Request<'_>) -> Result<Client, Fault> {
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let address = tcp::resolve(&format!("{host}:{port}")).await.map_err(|error| Fault::Request(format!("{host}: {error}")))?;
    if !headers.contains_key(HOST) {
        let own = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        headers.insert(HOST, HeaderValue::from_str(&own).map_err(|_| Fault::Header(own))?);
    }
    url.set_host(Some(request.tls_server_name)).map_err(|error| Fault::Url(error.to_string()))?;
    let builder = builder(request.disable_redirects, request.tls_skip_verify);
    Ok(builder.resolve(request.tls_server_name, address).build()?)
}

fn headers(given: &BTreeMap<String, Vec<String>>) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        let wrong = || Fault::Header(name.clone());
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        for value in values {
            headers.append(&key, HeaderValue::from_str(value).map_err(|_| wrong())?);
        }
    }
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("Consul Health Check"));
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("text/plain, text/*, */*"));
    headers.entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
    Ok(headers)
}

fn health(status: StatusCode) -> Health {
    match status {
        status if status.is_success() => Health::Passing,
        StatusCode::TOO_MANY_REQUESTS => Health::Warning,
        _ => Health::Critical,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A server that answers by the path, and the requests that it got, one connection each.
    async fn server() -> (String, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (tell, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 8192];
                    let mut length = 0;
                    while !request[..length].windows(4).any(|octets| octets == b"\r\n\r\n") {
                        length += stream.read(&mut request[length..]).await.unwrap();
                    }
                    let request = String::from_utf8_lossy(&request[..length]).into_owned();
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    tell.send(request).unwrap();
                    let (status, extra, body) = match path.as_str() {
                        "/busy" => ("429 Too Many Requests", "", "later".to_owned()),
                        "/ill" => ("503 Service Unavailable", "", "no database".to_owned()),
                        "/moved" => ("302 Found", "Location: /health\r\n", String::new()),
                        "/long" => ("200 OK", "", format!("{}end", "x".repeat(100_000))),
                        "/hang" => return tokio::time::sleep(LONG).await,
                        _ => ("200 OK", "", "fine".to_owned()),
                    };
                    let answer = format!("HTTP/1.1 {status}\r\n{extra}Content-Length: {}\r\n\r\n{body}", body.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        (base, heard)
    }

    fn get<'a>(url: &'a str, header: &'a BTreeMap<String, Vec<String>>) -> Request<'a> {
        Request { url, method: "", header, body: "", disable_redirects: false, tls_server_name: "", tls_skip_verify: false }
    }

    #[tokio::test]
    async fn the_status_is_the_health_and_the_output_says_what_came() {
        let (base, _heard) = server().await;
        let (clients, none) = (Clients::default(), BTreeMap::new());
        for (path, health, answer) in [
            ("/health", Health::Passing, "200 OK Output: fine"),
            ("/busy", Health::Warning, "429 Too Many Requests Output: later"),
            ("/ill", Health::Critical, "503 Service Unavailable Output: no database"),
            ("/moved", Health::Passing, "200 OK Output: fine"),
        ] {
            let url = format!("{base}{path}");
            let expected = Outcome { health, output: format!("HTTP GET {url}: {answer}") };
            assert_eq!(clients.run(get(&url, &none), LONG, 4096).await, expected);
        }
        let url = format!("{base}/long");
        let long = clients.run(get(&url, &none), LONG, 5).await;
        assert_eq!(long.output, format!("HTTP GET {url}: 200 OK Output: xxend"));
        let moved = format!("{base}/moved");
        let kept = clients.run(Request { disable_redirects: true, ..get(&moved, &none) }, LONG, 4096).await;
        assert_eq!(kept, Outcome::critical(format!("HTTP GET {moved}: 302 Found Output: ")));
    }

    #[tokio::test]
    async fn the_request_is_as_it_was_written_and_connections_are_new() {
        let (base, mut heard) = server().await;
        let clients = Clients::default();
        let header = BTreeMap::from([
            ("x-Token".to_owned(), vec!["a".to_owned(), "b".to_owned()]),
            ("Host".to_owned(), vec!["web.test".to_owned()]),
        ]);
        let url = format!("{base}/health");
        for _ in 0..2 {
            let request = Request { method: "PUT", body: "hello", ..get(&url, &header) };
            assert_eq!(clients.run(request, LONG, 4096).await.health, Health::Passing);
            let request = heard.recv().await.unwrap().to_lowercase();
            assert!(request.starts_with("put /health http/1.1\r\n"), "{request}");
            for line in [
                "x-token: a",
                "x-token: b",
                "host: web.test",
                "user-agent: consul health check",
                "accept: text/plain, text/*, */*",
                "connection: close",
            ] {
                assert!(request.contains(&format!("\r\n{line}\r\n")), "{line} of {request}");
            }
        }
    }

    #[tokio::test]
    async fn faults_say_what_went_wrong() {
        let (base, _heard) = server().await;
        let (clients, none) = (Clients::default(), BTreeMap::new());
        let hang = format!("{base}/hang");
        let silent = clients.run(get(&hang, &none), Duration::from_millis(100), 4096).await;
        assert_eq!(silent, Outcome::critical(format!("HTTP GET {hang}: no answer within 100ms")));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = format!("http://{closed}/");
        let refused = clients.run(get(&url, &none), LONG, 4096).await;
        assert!(refused.health == Health::Critical && refused.output.contains("refused"), "{}", refused.output);
        let other = clients.run(get("nonsense", &none), LONG, 4096).await;
        assert!(other.output.contains("expected an http:// or https:// URL"), "{}", other.output);
        let bad = BTreeMap::from([("bad name".to_owned(), vec!["x".to_owned()])]);
        assert!(clients.run(get(&url, &bad), LONG, 4096).await.output.contains("\"bad name\" is no HTTP header"));
        let tls = base.replace("http:", "https:");
        let request = Request { tls_skip_verify: true, tls_server_name: "web.test", ..get(&tls, &none) };
        assert_eq!(clients.run(request, Duration::from_secs(2), 4096).await.health, Health::Critical);
    }

    #[tokio::test]
    async fn certificates_are_verified_unless_told_not_to_and_the_name_can_be_told() {
        let url = format!("https://{}/", super::super::tls::tests::server().await);
        let (clients, none) = (Clients::default(), BTreeMap::new());
        let unknown = clients.run(get(&url, &none), LONG, 4096).await;
        assert!(unknown.health == Health::Critical && unknown.output.contains("certificate"), "{}", unknown.output);
        let trusting = Request { tls_skip_verify: true, ..get(&url, &none) };
        // An address is no name to ask for.
        let expected = format!("HTTP GET {url}: 200 OK Output: nobody");
        assert_eq!(clients.run(trusting, LONG, 4096).await, Outcome { health: Health::Passing, output: expected });
        let named = Request { tls_server_name: "web.test", ..trusting };
        let expected = format!("HTTP GET {url}: 200 OK Output: web.test");
        assert_eq!(clients.run(named, LONG, 4096).await, Outcome { health: Health::Passing, output: expected });
    }
}
