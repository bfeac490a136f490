//! Who is connected, by whatever listener. Places are few, so that whoever comes when all are taken gets that of the
//! connection that was silent for longest: a program that forgets its connections must not keep others of its host from
//! asking.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::clients::network;
use crate::limits;

/// How long a connection has to be silent before another client may have its place.
const SPARE: Duration = Duration::from_millis(200);

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    begun: Instant,
    taken: Mutex<HashMap<u64, Taken>>,
    next: AtomicU64,
}

/// A place as the others see it.
#[derive(Debug)]
struct Taken {
    client: Option<IpAddr>,
    /// When its last query came, in milliseconds since `begun`.
    used: Arc<AtomicU64>,
    wanted: CancellationToken,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    used: Arc<AtomicU64>,
    /// Another needs the place more.
    wanted: CancellationToken,
    pub(super) backlog: Backlog,
}

impl Default for Seats {
    fn default() -> Self {
        Self { begun: Instant::now(), taken: Mutex::default(), next: AtomicU64::new(0) }
    }
}

impl Seats {
    /// Takes a place, if there is one or one can be had; `None` for a client of whom it is not yet known who it is.
    pub(super) fn take(seats: &Arc<Self>, client: Option<IpAddr>) -> Option<Seat> {
        let mut taken = seats.lock();
        let full = taken.len() >= limits::CONNECTIONS_MAX;
        if !seats.make_room(&mut taken, client, full) {
            return None;
        }
        let number = seats.next.fetch_add(1, Ordering::Relaxed);
        let (used, wanted) = (Arc::new(AtomicU64::new(seats.now())), CancellationToken::new());
        taken.insert(number, Taken { client, used: used.clone(), wanted: wanted.clone() });
        Some(Seat { seats: seats.clone(), number, used, wanted, backlog: Backlog::default() })
    }

    /// Are so many places taken that a newcomer should show first that it is where it says it is?
    pub(super) fn are_scarce(&self) -> bool {
        self.lock().len() >= limits::CONNECTIONS_MAX / 2
    }

    /// Wants all places back, from who is idle and from who is not.
    pub(super) fn close(&self) {
        self.lock().values().for_each(|seat| seat.wanted.cancel());
    }

    /// Has a connection that is idle give up its place where this client could have no other one.
    fn make_room(&self, taken: &mut HashMap<u64, Taken>, client: Option<IpAddr>, full: bool) -> bool {
        let whose = client.map(network);
        let is_of = |seat: &Taken| seat.client.map(network) == whose;
        let own = taken.values().filter(|seat| client.is_some() && is_of(seat)).count();
        let greedy = own >= limits::CONNECTIONS_PER_CLIENT_MAX;
        if !full && !greedy {
            return true;
        }
        // Who has most has to give up his own; a place of others is taken only when there is none left.
        let theirs = |seat: &Taken| !greedy || is_of(seat);
        let used = |seat: &Taken| seat.used.load(Ordering::Relaxed);
        let now = self.now();
        let spare = |seat: &Taken| now.saturating_sub(used(seat)) >= SPARE.as_millis() as u64;
        let idle = taken.iter().filter(|(_, seat)| theirs(seat) && spare(seat));
        let idle = idle.min_by_key(|(_, seat)| used(seat)).map(|(number, _)| *number);
        let given_up = idle.and_then(|idle| taken.remove(&idle));
        given_up.is_some_and(|seat| {
            seat.wanted.cancel();
            true
        })
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Notes whose it is; or there is no place for one more of this client's.
    pub(super) fn claim_for(&self, client: IpAddr) -> bool {
        let mut taken = self.seats.lock();
        let room = self.seats.make_room(&mut taken, Some(client), false);
        if let Some(seat) = taken.get_mut(&self.number).filter(|_| room) {
            seat.client = Some(client);
        }
        room
    }

    /// Notes that a query came.
    pub(super) fn touch(&self) {
        self.used.store(self.seats.now(), Ordering::Relaxed);
    }

    /// Waits until another needs the place more.
    pub(super) async fn wanted(&self) {
        self.wanted.cancelled().await;
    }

    /// Waits until no query came for so long, or another needs the place more.
    pub(super) async fn ends(&self, idle: Duration) {
        let silent = async {
            loop {
                let silent = self.seats.now().saturating_sub(self.used.load(Ordering::Relaxed));
                match idle.checked_sub(Duration::from_millis(silent)) {
                    None | Some(Duration::ZERO) => break,
                    Some(rest) => sleep(rest).await,
                }
            }
        };
        tokio::select! {
            () = self.wanted() => {}
            () = silent => {}
        }
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
    fn rfc7766_6_2_2_the_longest_silent_connection_makes_room() {
        let seats = Arc::new(Seats { begun: Instant::now() - Duration::from_secs(60), ..Seats::default() });
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut held: Vec<Seat> =
            (0..limits::CONNECTIONS_PER_CLIENT_MAX).map(|_| Seats::take(&seats, Some(client)).unwrap()).collect();
        assert!(Seats::take(&seats, Some(client)).is_none(), "all of them are in use");
        for (at, seat) in held.iter().enumerate() {
            seat.used.store(1_000 + at as u64, Ordering::Relaxed);
        }
        held[5].used.store(7, Ordering::Relaxed);
        let other = Seats::take(&seats, Some([127, 0, 0, 2].into())).unwrap();
        assert!(held.iter().all(|seat| !seat.wanted.is_cancelled()), "others have room");
        held.push(Seats::take(&seats, Some(client)).unwrap());
        let wanted: Vec<usize> = (0..held.len()).filter(|at| held[*at].wanted.is_cancelled()).collect();
        assert_eq!(wanted, [5]);
        assert_eq!(seats.lock().len(), limits::CONNECTIONS_PER_CLIENT_MAX + 1);
        drop((held, other));
        assert!(seats.lock().is_empty());
    }

    #[test]
    fn who_comes_through_a_proxy_counts_as_who_he_is() {
        let seats = Arc::new(Seats { begun: Instant::now() - Duration::from_secs(60), ..Seats::default() });
        let (client, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let strangers: Vec<Seat> =
            (0..=limits::CONNECTIONS_PER_CLIENT_MAX + 1).map(|_| Seats::take(&seats, None).unwrap()).collect();
        let (mut found, last) = (strangers.iter(), strangers.last().unwrap());
        assert!(found.by_ref().take(limits::CONNECTIONS_PER_CLIENT_MAX).all(|seat| seat.claim_for(client)));
        assert!(!last.claim_for(client), "one more of the same client's, and none of its is idle");
        assert!(found.next().unwrap().claim_for(other));
        strangers[3].used.store(7, Ordering::Relaxed);
        assert!(last.claim_for(client) && strangers[3].wanted.is_cancelled());
    }
}
