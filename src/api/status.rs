//! `/v1/status`: who leads, who is there. One server, so it is us.

use super::Api;
use super::reply::{Refusal, Reply};
use super::request::Request;

/// The port by which servers of a cluster know each other; nothing listens there.
const SERVER_PORT: u16 = 8300;

pub(super) fn leader(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    Reply::json(request, &us(api, request)?)
}

pub(super) fn peers(api: &Api, request: &Request) -> Result<Reply, Refusal> {
    Reply::json(request, &[us(api, request)?])
}

fn us(api: &Api, request: &Request) -> Result<String, Refusal> {
    api.own_datacenter(request.get("dc"))?;
    let address = &api.identity().address;
    Ok(if address.contains(':') { format!("[{address}]:{SERVER_PORT}") } else { format!("{address}:{SERVER_PORT}") })
}
