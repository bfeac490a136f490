//! DNS over QUIC (RFC 9250): a stream a query. And how any connection by QUIC begins; [`http3`](super::http3) has what is
//! asked over HTTP/3.

use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ReadToEndError, RecvStream, SendStream, TokioRuntime};
use quinn::{TransportConfig, VarInt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::seats::{Seat, Seats};
use super::tcp::{GREETING, Reception, WRITE};
use super::transport::Transport;
use super::{http3, https};
use crate::dns::{has_option, option};
use crate::limits::{
    ANSWER_OCTETS_PER_CONNECTION_MAX, QUERIES_PER_CONNECTION_MAX, QUIC_CONNECTIONS_WAITING_MAX, QUIC_OCTETS_WAITING_MAX,
    SENT_AHEAD_OCTETS_PER_CONNECTION_MAX, SENT_AHEAD_OCTETS_PER_STREAM_MAX, STREAM_QUERY_MAX,
};
use crate::resolve::answer::Client;

/// How long the last packets may take when the process ends.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);
/// Streams in one direction that HTTP/3 needs of a client (RFC 9114, 6.2); DNS over QUIC has none.
const HTTP3_STREAMS: u32 = 3;

/// Errors of DNS over QUIC (RFC 9250, 4.3).
const DOQ_NO_ERROR: VarInt = VarInt::from_u32(0);
const DOQ_PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const DOQ_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Makes a bound socket speak QUIC, by which this transport is carried.
pub(super) fn endpoint(socket: UdpSocket, tls: rustls::ServerConfig, by: Transport) -> io::Result<Endpoint> {
    let mut transport = TransportConfig::default();
    let one_way = if by == Transport::H3 { HTTP3_STREAMS } else { 0 };
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(QUERIES_PER_CONNECTION_MAX as u32))
        .max_concurrent_uni_streams(VarInt::from_u32(one_way))
        .max_idle_timeout(by.idle().try_into().ok())
        .stream_receive_window(VarInt::from_u32(SENT_AHEAD_OCTETS_PER_STREAM_MAX))
        .receive_window(VarInt::from_u32(SENT_AHEAD_OCTETS_PER_CONNECTION_MAX))
        // What is beyond it waits in the connection's room.
        .send_window(ANSWER_OCTETS_PER_CONNECTION_MAX as u64)
        .datagram_receive_buffer_size(None);
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(Arc::new(transport))
        .max_incoming(QUIC_CONNECTIONS_WAITING_MAX)
        .incoming_buffer_size(SENT_AHEAD_OCTETS_PER_CONNECTION_MAX.into())
        .incoming_buffer_size_total(QUIC_OCTETS_WAITING_MAX);
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

/// Accepts connections until it is to stop.
pub(super) async fn serve(endpoint: Endpoint, reception: Arc<Reception>, stop: CancellationToken) {
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = stop.cancelled() => None,
        };
        let Some(incoming) = incoming else { return };
        // A first packet may have anybody's address on it. When places become scarce, whoever comes has to come twice, and show
        // that answers reach him.
        if reception.seats.are_scarce() && !incoming.remote_address_validated() && incoming.may_retry() {
            let _ = incoming.retry();
            continue;
        }
        match Seats::take(&reception.seats, None) {
            Some(seat) => {
                let reception = reception.clone();
                let under_way = reception.responder.under_way.clone();
                under_way.spawn(async move {
                    let listened = reception.listened.clone();
                    listened.opened.raise(1);
                    welcome(incoming, reception, seat).await;
                    listened.closed.raise(1);
                });
            }
            None => incoming.refuse(),
        }
    }
}

/// One connection from its handshake to its last stream.
async fn welcome(incoming: Incoming, reception: Arc<Reception>, seat: Seat) {
    let Ok(connecting) = incoming.accept() else { return };
    let connection = tokio::select! {
        connection = timeout(GREETING, connecting) => connection,
        () = seat.wanted() => return,
    };
    let Ok(Ok(connection)) = connection else { return };
    if !seat.claim_for(connection.remote_address().ip()) {
        return connection.close(DOQ_EXCESSIVE_LOAD, b"too many connections");
    }
    if !reception.admits(connection.remote_address().ip()) {
        return connection.close(DOQ_EXCESSIVE_LOAD, b"too many queries and connections");
    }
    match reception.transport() {
        Transport::H3 => Box::pin(http3::connection(connection, reception, seat)).await,
        _ => queries(connection, reception, seat).await,
    }
}

/// Answers what comes on a connection's streams, until its end.
async fn queries(connection: Connection, reception: Arc<Reception>, seat: Seat) {
    let seat = Arc::new(seat);
    let mut ends = pin!(seat.ends(reception.transport().idle()));
    let exchanges = TaskTracker::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((to, from)) => {
                    exchanges.spawn(exchange(connection.clone(), to, from, reception.clone(), seat.clone()));
                }
                Err(_) => return,
            },
            () = &mut ends => break,
        }
    }
    // What has been asked is answered before the connection goes.
    exchanges.close();
    let _ = timeout(https::FAREWELL, exchanges.wait()).await;
    connection.close(DOQ_NO_ERROR, b"");
}

/// One query, and its answer.
async fn exchange(
    connection: Connection,
    mut to: SendStream,
    mut from: RecvStream,
    reception: Arc<Reception>,
    seat: Arc<Seat>,
) {
    let octets = match timeout(https::ARRIVAL, from.read_to_end(2 + STREAM_QUERY_MAX)).await {
        Ok(Ok(octets)) => octets,
        // It was given up by the client, or the connection was lost.
        Ok(Err(ReadToEndError::Read(_))) => return,
        Ok(Err(ReadToEndError::TooLong)) | Err(_) => {
            let _ = from.stop(DOQ_EXCESSIVE_LOAD);
            let _ = to.reset(DOQ_EXCESSIVE_LOAD);
            return;
        }
    };
    seat.touch();
    let Some(query) = query(&octets) else {
        return connection.close(DOQ_PROTOCOL_ERROR, b"expected one query with id 0 (RFC 9250, 4.2)");
    };
    let transport = reception.transport();
    let client = Client { address: connection.remote_address().ip(), room: transport.room() };
    let mut answer = reception.responder.ask(&reception.listened, query, client).await;
    if answer.is_empty() {
        return connection.close(DOQ_PROTOCOL_ERROR, b"expected a query");
    }
    transport.grant(transport.wishes(query), &mut answer);
    let Ok(length) = u16::try_from(answer.len()) else { return };
    answer.splice(..0, length.to_be_bytes());
    let written = match seat.backlog.try_hold(answer) {
        Some(answer) => timeout(WRITE, to.write_all(answer.as_ref())).await.is_ok_and(|written| written.is_ok()),
        None => false,
    };
    if written && to.finish().is_ok() {
        // A connection that is closed takes with it what has not arrived.
        let _ = timeout(WRITE, to.stopped()).await;
    } else {
        let _ = to.reset(DOQ_EXCESSIVE_LOAD);
    }
}

/// Tells the clients of these endpoints that we go, so that they need not find out by waiting.
pub(super) async fn close(endpoints: &[Endpoint]) {
    endpoints.iter().for_each(|endpoint| endpoint.close(DOQ_NO_ERROR, b""));
    let told = async {
        for endpoint in endpoints {
            endpoint.wait_idle().await;
        }
    };
    let _ = timeout(FAREWELL, told).await;
}

/// The query of a stream, behind its length: one whole message, whose id is 0, and that does not ask to keep a connection
/// as one by TCP would (RFC 9250, 4.2.1, 4.3.3 and 5.5.2).
fn query(octets: &[u8]) -> Option<&[u8]> {
    let (length, query) = octets.split_first_chunk::<2>()?;
    let is_whole = usize::from(u16::from_be_bytes(*length)) == query.len();
    let is_allowed = query.starts_with(&[0, 0]) && !has_option(query, option::TCP_KEEPALIVE);
    (is_whole && is_allowed).then_some(query)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Class, Edns, EdnsOption, Query, Question, Type};

    #[test]
    fn rfc9250_4_2_1_a_stream_has_one_query_of_no_id() {
        let framed = |id: u16, code: u16| {
            let question = Question { name: "a.test".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
            let options = vec![EdnsOption { code, data: [].into() }];
            let edns = Some(Edns { options, ..Edns::new(1232) });
            let octets = Query { id, edns, ..Query::of(question) }.compose();
            [&(octets.len() as u16).to_be_bytes(), &octets[..]].concat()
        };
        let good = framed(0, option::PADDING);
        assert_eq!(query(&good), Some(&good[2..]));
        assert_eq!(query(&framed(7, option::PADDING)), None);
        assert_eq!(query(&framed(0, option::TCP_KEEPALIVE)), None);
        for cut in 0..good.len() {
            assert_eq!(query(&good[..cut]), None);
        }
        assert_eq!(query(&[good.clone(), good].concat()), None);
    }
}
