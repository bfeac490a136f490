//! An HTTP client of one request a connection.

use std::fmt::Write as _;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, "").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The JSON of a page that is there.
    pub(crate) fn json(&self, path: &str) -> Value {
        let response = self.get(path);
        assert_eq!(response.status, 200, "GET {path}: {response:?}");
        serde_json::from_str(&response.body).unwrap_or_else(|error| panic!("GET {path}: {error} in {response:?}"))
    }

    pub(crate) fn put(&self, path: &str, body: &str) -> Response {
        self.request("PUT", path, body).unwrap_or_else(|error| panic!("PUT {path}: {error}"))
    }

    /// A PUT that must be accepted.
    pub(crate) fn accepts(&self, path: &str, body: &Value) {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.put(path, &text);
        assert_eq!(response.status, 200, "PUT {path} {text}: {response:?}");
    }

    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Result<Response> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        write!(request, "Content-Length: {}\r\n\r\n{body}", body.len()).map_err(|error| Error::other(error.to_string()))?;
        stream.write_all(request.as_bytes())?;
        let mut octets = Vec::new();
        stream.read_to_end(&mut octets)?;
        Response::read(&octets)
    }
}

impl Response {
    fn read(octets: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::new(ErrorKind::InvalidData, format!("{what} in {:?}", String::from_utf8_lossy(octets)));
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(|| wrong("no end of the headers"))?;
        let head = String::from_utf8_lossy(&octets[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(|| wrong("no status"))?;
        let body = &octets[end + 4..];
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
        let body = if header("transfer-encoding") == Some("chunked") {
            unchunked(body).ok_or_else(|| wrong("a cut chunk"))?
        } else {
            // A process that was killed half-way has acknowledged nothing.
            let length = header("content-length").and_then(|text| text.parse::<usize>().ok());
            match length {
                Some(length) if body.len() != length => return Err(wrong("a cut body")),
                _ => body.to_vec(),
            }
        };
        Ok(Self { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(end + 2..end + 2 + length)?);
        rest = rest.get(end + 4 + length..)?;
    }
}
