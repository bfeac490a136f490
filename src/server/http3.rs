//! DNS over HTTP/3 (RFC 8484, RFC 9114).

use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::server::RequestResolver;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::https::{ARRIVAL, Asked, CUT_SHORT, FAREWELL, Refusal, TOO_LARGE, TOO_SLOW, Visit};
use super::quic::FAREWELL as LAST_PACKETS;
use super::seats::Seat;
use super::tcp::{Reception, WRITE};
use crate::doh::Bounded;
use crate::limits::{DOH_HEAD_OCTETS_MAX, HTTP3_STREAM_OCTETS_MAX, STREAM_QUERY_MAX};

/// Answers what comes on a connection, until its end.
pub(super) async fn connection(connection: quinn::Connection, reception: Arc<Reception>, seat: Seat) {
    let (client, carrier) = (connection.remote_address().ip(), connection.clone());
    let doh = reception.terms.load().doh.clone();
    let visit = Arc::new(Visit { doh, reception, client, seat, http3: None });
    let streams = Bounded::new(h3_quinn::Connection::new(connection), HTTP3_STREAM_OCTETS_MAX);
    let mut builder = h3::server::builder();
    builder.max_field_section_size(DOH_HEAD_OCTETS_MAX as u64);
    let mut ends = pin!(visit.seat.ends(visit.reception.transport().idle()));
    let requests = tokio::select! {
        requests = builder.build(streams) => requests,
        () = &mut ends => return,
    };
    let Ok(mut requests) = requests else { return };
    let responses = TaskTracker::new();
    loop {
        tokio::select! {
            request = requests.accept() => match request {
                Ok(Some(request)) => drop(responses.spawn(respond(request, visit.clone()))),
                Ok(None) | Err(_) => return,
            },
            () = &mut ends => break,
        }
    }
    // What has been asked is answered before the connection goes, which it does when it is dropped. The library does not say
    // when an answer has arrived.
    responses.close();
    if !responses.is_empty() {
        let answered = async {
            let _ = requests.shutdown(0).await;
            responses.wait().await;
        };
        let _ = timeout(FAREWELL, answered).await;
        let _ = timeout(LAST_PACKETS, carrier.closed()).await;
    }
}

/// One request, and its response.
async fn respond(request: RequestResolver<Bounded<h3_quinn::Connection>, Bytes>, visit: Arc<Visit>) {
    let Ok(Ok((request, mut stream))) = timeout(ARRIVAL, request.resolve_request()).await else { return };
    let query = async {
        let mut query = match visit.doh.asked(&request)? {
            Asked::InUrl(query) => return Ok(query),
            Asked::InBody => Vec::new(),
        };
        while let Some(mut part) = stream.recv_data().await.map_err(|_| CUT_SHORT)? {
            if query.len() + part.remaining() > STREAM_QUERY_MAX {
                return Err(TOO_LARGE);
            }
            query.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        }
        Ok::<_, Refusal>(query)
    };
    let answer = match timeout(ARRIVAL, query).await {
        Ok(Ok(query)) => visit.answer(&query).await,
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(TOO_SLOW),
    };
    if answer.is_err() {
        // What else comes of it is not read.
        stream.stop_sending(Code::H3_NO_ERROR);
    }
    let (head, body) = visit.response(answer, request.method()).into_parts();
    let head = hyper::Response::from_parts(head, ());
    let sent = async { stream.send_response(head).await.is_ok() && stream.send_data(body).await.is_ok() };
    if timeout(WRITE, sent).await == Ok(true) {
        let _ = stream.finish().await;
    }
}
