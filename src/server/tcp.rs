//! DNS over TCP (RFC 7766): messages behind their length, many on one connection, answered as they become ready.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::responder::{Outcome, Responder};
use super::tally::Listened;
use crate::limits;
use crate::resolve::answer::{Client, Transport};

/// How long a connection may be silent between two queries, and how long a query may take to arrive once begun
/// (RFC 7766, 6.2.3: seconds, so that clients may keep connections).
const IDLE: Duration = Duration::from_secs(10);
/// How long a connection has to be silent before another client may have its place.
const SPARE: Duration = Duration::from_millis(200);
/// Octets of queries that are read at once.
const READ_AHEAD: usize = 2_048;
/// How long a client may take to accept an answer.
const WRITE: Duration = Duration::from_secs(10);

/// Accepts connections until the process ends.
pub(super) async fn serve(listener: TcpListener, responder: Arc<Responder>, listened: Arc<Listened>) {
    let seats = Arc::new(Seats::default());
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // With all places taken and none of them idle it is closed at once, which tells a client more than silence.
                if let Some(seat) = Seats::take(&seats, peer.ip()) {
                    let (responder, listened) = (responder.clone(), listened.clone());
                    tokio::spawn(async move {
                        listened.opened.raise(1);
                        connection(stream, peer, responder, &listened, seat).await;
                        listened.closed.raise(1);
                    });
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
async fn connection(stream: TcpStream, peer: SocketAddr, responder: Arc<Responder>, listened: &Listened, seat: Seat) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::with_capacity(READ_AHEAD, from);
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(limits::TCP_QUERIES_PER_CONNECTION_MAX);
    let writer = tokio::spawn(async move {
        let mut waiting = Vec::new();
        while ready.recv_many(&mut waiting, limits::TCP_QUERIES_PER_CONNECTION_MAX).await > 0 {
            if !matches!(timeout(WRITE, to.write_all(&waiting.concat())).await, Ok(Ok(()))) {
                break;
            }
            waiting.clear();
        }
    });
    let in_flight = Arc::new(Semaphore::new(limits::TCP_QUERIES_PER_CONNECTION_MAX));
    let client = Client { address: peer.ip(), transport: Transport::Tcp };
    let mut worker = responder.worker(listened, false);
    loop {
        let octets = tokio::select! {
            octets = message(&mut from) => octets,
            () = seat.wanted.cancelled() => break,
        };
        let Some(octets) = octets else { break };
        seat.touch();
        let Ok(permit) = in_flight.clone().acquire_owned().await else { break };
        worker.refresh();
        let mut answer = Vec::new();
        let pending = match responder.answer(&mut worker, &octets, client, &mut answer) {
            Outcome::Answered => None,
            Outcome::Pending(pending) => Some(*pending),
            Outcome::Unknown { setup, .. } => responder.look_up(&worker, &setup, &octets, client, None, &mut answer),
        };
        match pending {
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

/// The next message; `None` at the end, or when it takes too long.
async fn message(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let length = timeout(IDLE, from.read_u16()).await.ok()?.ok()?;
    let mut octets = vec![0; usize::from(length)];
    timeout(IDLE, from.read_exact(&mut octets)).await.ok()?.ok()?;
    Some(octets)
}

/// An answer behind its length; nothing for no answer.
fn framed(answer: &[u8]) -> Vec<u8> {
    match u16::try_from(answer.len()) {
        Ok(length @ 1..) => [&length.to_be_bytes(), answer].concat(),
        _ => Vec::new(),
    }
}

/// Who is connected. Places are few, so that whoever comes when all are taken gets that of the connection that was silent
/// for longest: a program that forgets its connections must not keep others of its host from asking.
struct Seats {
    begun: Instant,
    taken: Mutex<HashMap<u64, Taken>>,
    next: AtomicU64,
}

/// A place as the others see it.
struct Taken {
    client: IpAddr,
    /// When its last query came, in milliseconds since `begun`.
    used: Arc<AtomicU64>,
    wanted: CancellationToken,
}

/// A place among the connections, given back when dropped.
struct Seat {
    seats: Arc<Seats>,
    number: u64,
    used: Arc<AtomicU64>,
    /// Another needs the place more.
    wanted: CancellationToken,
}

impl Default for Seats {
    fn default() -> Self {
        Self { begun: Instant::now(), taken: Mutex::default(), next: AtomicU64::new(0) }
    }
}

impl Seats {
    fn take(seats: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        let mut taken = seats.lock();
        let own = taken.values().filter(|seat| seat.client == client).count();
        let full = taken.len() >= limits::TCP_CONNECTIONS_MAX;
        let now = seats.now();
        if full || own >= limits::TCP_CONNECTIONS_PER_CLIENT_MAX {
            // Who has most has to give up his own; a place of others is taken only when there is none left.
            let theirs = |seat: &Taken| own < limits::TCP_CONNECTIONS_PER_CLIENT_MAX || seat.client == client;
            let used = |seat: &Taken| seat.used.load(Ordering::Relaxed);
            let spare = |seat: &Taken| now.saturating_sub(used(seat)) >= SPARE.as_millis() as u64;
            let idle = taken.iter().filter(|(_, seat)| theirs(seat) && spare(seat));
            let idle = *idle.min_by_key(|(_, seat)| used(seat))?.0;
            taken.remove(&idle)?.wanted.cancel();
        }
        let number = seats.next.fetch_add(1, Ordering::Relaxed);
        let (used, wanted) = (Arc::new(AtomicU64::new(now)), CancellationToken::new());
        taken.insert(number, Taken { client, used: used.clone(), wanted: wanted.clone() });
        Some(Seat { seats: seats.clone(), number, used, wanted })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn touch(&self) {
        self.used.store(self.seats.now(), Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silent_connection_makes_room() {
        let seats = Arc::new(Seats { begun: Instant::now() - Duration::from_secs(60), ..Seats::default() });
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut held: Vec<Seat> =
            (0..limits::TCP_CONNECTIONS_PER_CLIENT_MAX).map(|_| Seats::take(&seats, client).unwrap()).collect();
        assert!(Seats::take(&seats, client).is_none(), "all of them are in use");
        for (at, seat) in held.iter().enumerate() {
            seat.used.store(1_000 + at as u64, Ordering::Relaxed);
        }
        held[5].used.store(7, Ordering::Relaxed);
        let other = Seats::take(&seats, [127, 0, 0, 2].into()).unwrap();
        assert!(held.iter().all(|seat| !seat.wanted.is_cancelled()), "others have room");
        held.push(Seats::take(&seats, client).unwrap());
        let wanted: Vec<usize> = (0..held.len()).filter(|at| held[*at].wanted.is_cancelled()).collect();
        assert_eq!(wanted, [5]);
        assert_eq!(seats.lock().len(), limits::TCP_CONNECTIONS_PER_CLIENT_MAX + 1);
        drop((held, other));
        assert!(seats.lock().is_empty());
    }
}
