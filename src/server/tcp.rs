//! DNS over TCP (RFC 7766): messages behind their length, many on one connection, answered as they become ready.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::Responder;
use crate::limits;
use crate::resolve::answer::{Client, Transport};

/// How long a connection may be silent between two queries, and how long a query may take to arrive once begun
/// (RFC 7766, 6.2.3: seconds, so that clients may keep connections).
const IDLE: Duration = Duration::from_secs(10);
/// How long a client may take to accept an answer.
const WRITE: Duration = Duration::from_secs(10);

/// Accepts connections until the process ends.
pub(super) async fn serve(listener: TcpListener, responder: Arc<Responder>) {
    let seats = Arc::new(Seats::default());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Above the limits a connection is closed at once, which tells a client more than silence.
                if let Some(seat) = Seats::take(&seats, peer.ip()) {
                    tokio::spawn(connection(stream, peer, responder.clone(), seat));
                }
            }
            Err(error) => {
                // Out of descriptors, most likely; those who hold them need a moment to finish.
                tracing::warn!("cannot accept a TCP connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// One connection from its first octet to its last.
async fn connection(stream: TcpStream, peer: SocketAddr, responder: Arc<Responder>, _seat: Seat) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let (mut from, mut to) = stream.into_split();
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(limits::TCP_QUERIES_PER_CONNECTION_MAX);
    let writer = tokio::spawn(async move {
        while let Some(answer) = ready.recv().await {
            if !matches!(timeout(WRITE, to.write_all(&answer)).await, Ok(Ok(()))) {
                break;
            }
        }
    });
    let in_flight = Arc::new(Semaphore::new(limits::TCP_QUERIES_PER_CONNECTION_MAX));
    let client = Client { address: peer.ip(), transport: Transport::Tcp };
    let mut worker = responder.worker();
    while let Ok(Ok(length)) = timeout(IDLE, from.read_u16()).await {
        let mut octets = vec![0; usize::from(length)];
        if !matches!(timeout(IDLE, from.read_exact(&mut octets)).await, Ok(Ok(_))) {
            break;
        }
        let Ok(permit) = in_flight.clone().acquire_owned().await else { break };
        worker.refresh();
        let mut answer = Vec::new();
        match responder.answer(&mut worker, &octets, client, &mut answer) {
            None => {
                if answers.send(framed(&answer)).await.is_err() {
                    break;
                }
            }
            Some(pending) => {
                let (responder, answers) = (responder.clone(), answers.clone());
                tokio::spawn(async move {
                    let answer = responder.finish(pending).await;
                    let _ = answers.send(framed(&answer)).await;
                    drop(permit);
                });
            }
        }
    }
    // Answers that are still being looked up are sent before the connection goes.
    drop(answers);
    let _ = writer.await;
}

/// An answer behind its length; nothing for no answer.
fn framed(answer: &[u8]) -> Vec<u8> {
    match u16::try_from(answer.len()) {
        Ok(length @ 1..) => [&length.to_be_bytes(), answer].concat(),
        _ => Vec::new(),
    }
}

/// How many connections each client has.
#[derive(Default)]
struct Seats {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections, given back when dropped.
struct Seat {
    seats: Arc<Seats>,
    client: IpAddr,
}

impl Seats {
    fn take(seats: &Arc<Seats>, client: IpAddr) -> Option<Seat> {
        let mut taken = seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= limits::TCP_CONNECTIONS_MAX {
            return None;
        }
        let own = taken.entry(client).or_default();
        if *own >= limits::TCP_CONNECTIONS_PER_CLIENT_MAX {
            return None;
        }
        *own += 1;
        Some(Seat { seats: seats.clone(), client })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.client);
            }
        }
    }
}
