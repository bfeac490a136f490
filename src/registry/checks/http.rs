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
use super::{Outcome, tcp, tls};
use crate::catalog::Health;

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
