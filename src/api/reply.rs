//! What goes back: status, headers, body; and [`Refusal`], the answer that says no.

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::request::Request;
use crate::catalog::Refused;

/// An answer before it becomes HTTP.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: Option<&'static str>,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

pub(super) const JSON: &str = "application/json";
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

impl Reply {
    pub(super) fn new(status: StatusCode, content_type: Option<&'static str>, body: impl Into<Bytes>) -> Reply {
        Reply { status, content_type, headers: Vec::new(), body: body.into() }
    }

    /// A value as JSON: compact, or indented by four when the client asks for `?pretty`.
    pub(super) fn json(request: &Request, value: &impl Serialize) -> Result<Reply, Refusal> {
        let mut body = Vec::with_capacity(256);
        let written = if request.has("pretty") {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut serializer = serde_json::Serializer::with_formatter(&mut body, formatter);
            let written = value.serialize(&mut serializer);
            body.push(b'\n');
            written
        } else {
            serde_json::to_writer(&mut body, value)
        };
        written.map_err(|error| Refusal::internal(error.to_string()))?;
        Ok(Reply::new(StatusCode::OK, Some(JSON), body))
    }

    /// Done, and nothing to say.
    pub(super) fn done() -> Reply {
        Reply::new(StatusCode::OK, Some("application/json; charset=utf-8"), Bytes::new())
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        for (name, value) in self.headers {
            // A value made of what a client sent may hold what no header can; such a header is left out.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}

/// A request that is not served, with the text that says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Refusal {
        Refusal { status, text: text.into() }
    }

    /// The client's mistake.
    pub(super) fn bad(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::BAD_REQUEST, text)
    }

    pub(super) fn not_found(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, text)
    }

    /// What Consul answers with 500, which is more than its own faults.
    pub(super) fn internal(text: impl Into<String>) -> Refusal {
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    pub(super) fn unknown_datacenter() -> Refusal {
        Refusal::internal("No path to datacenter")
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        Refusal::internal(refused.to_string())
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        let content_type = (!refusal.text.is_empty()).then_some(TEXT);
        Reply::new(refusal.status, content_type, refusal.text)
    }
}
