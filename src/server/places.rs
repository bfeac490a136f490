//! Places for queries that wait for an answer from elsewhere. They are few, and a domain whose servers are dead, or a client
//! that asks for nothing else, holds each for seconds: so whoever has as many as are free gets no other one. One such client
//! has half of them at most, two of them have a third each, and there always is one for whoever has none (dynamic thresholds,
//! Choudhury and Hahne, 1998).
//!
//! What counts as one is a client, whatever it asks for, and a domain, as somebody may have registered it, whoever asks for
//! names below it.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::SeedableRandomState;

use super::clients::network;
use crate::dns::Name;
use crate::limits;

/// Whoever has less than so many is not the one that asks for too much.
const FEW: usize = 8;

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    taken: AtomicUsize,
    /// How many each client has, and each domain; they stand where their hash says, and those with the same one share.
    shares: Box<[AtomicUsize]>,
    hasher: SeedableRandomState,
}

/// One of them, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    shares: [usize; 2],
}

impl Default for Places {
    fn default() -> Self {
        Self::new(limits::QUERIES_WAITING_MAX, SeedableRandomState::random())
    }
}

impl Places {
    fn new(all: usize, hasher: SeedableRandomState) -> Self {
        let shares = (0..limits::WAITING_SHARES).map(|_| AtomicUsize::default()).collect();
        Self { all, taken: AtomicUsize::default(), shares, hasher }
    }

    /// A place for a question of this client, if it may have one.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr, name: &Name) -> Option<Place> {
        let domain = name.labels().skip(name.label_count().saturating_sub(registered(name))).map(<[u8]>::to_ascii_lowercase);
        let shares = [self.share(&network(client)), self.share(&domain.collect::<Vec<_>>())];
        let free = self.all.saturating_sub(self.taken.fetch_add(1, Ordering::Relaxed));
        let own = shares.map(|share| self.shares.get(share).map_or(0, |own| own.fetch_add(1, Ordering::Relaxed)));
        // Given back at once where it may not be had.
        let place = Place { places: self.clone(), shares };
        let [client, domain] = own;
        // Who has few places is not to suffer for others who ask for names of the same domain, while there are enough.
        let is_modest = client < FEW && free >= self.all / 4;
        (client < free && (domain < free || is_modest)).then_some(place)
    }

    fn share(&self, whose: &impl Hash) -> usize {
        self.hasher.hash_one(whose) as usize % self.shares.len().max(1)
    }
}

/// How many labels at the end of a name somebody may have registered: two, three below what looks like `co.uk`, and as many as
/// a network of 16 bits, or 32 of IPv6, has among reverse names. A guess, which costs a few names a share when it is wrong.
fn registered(name: &Name) -> usize {
    let mut labels = name.labels().skip(name.label_count().saturating_sub(2));
    match (labels.next(), labels.next()) {
        (Some(b"in-addr"), Some(b"arpa")) => 4,
        (Some(b"ip6"), Some(b"arpa")) => 10,
        (Some(second), Some(last)) if last.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Places { taken, shares, .. } = &*self.places;
        taken.fetch_sub(1, Ordering::Relaxed);
        for share in self.shares.iter().filter_map(|share| shares.get(*share)) {
            share.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many places somebody gets who asks for all of them, each for a name of its own.
    fn taken(places: &Arc<Places>, client: &str, domain: &str) -> Vec<Place> {
        let take = |n| places.take(client.parse().unwrap(), &format!("n{n}.{domain}").parse().unwrap());
        (0..1_000).map_while(take).collect()
    }

    #[test]
    fn one_client_or_domain_leaves_a_place_for_each_other() {
        let places = Arc::new(Places::new(600, SeedableRandomState::fixed()));
        let first = taken(&places, "192.0.2.1", "dead.example");
        assert_eq!(first.len(), 300);
        assert_eq!(taken(&places, "192.0.2.1", "other.test").len(), 0, "whatever it asks for");
        assert_eq!(taken(&places, "192.0.2.2", "DEAD.example").len(), FEW, "whoever asks, but for a few");
        let second = taken(&places, "192.0.2.2", "other.test");
        assert_eq!(second.len(), 150);
        for n in 3..9 {
            assert!(places.take([192, 0, 2, n].into(), &format!("www.n{n}.test").parse().unwrap()).is_some(), "client {n}");
        }
        drop((first, second));
        assert_eq!(taken(&places, "192.0.2.1", "dead.example").len(), 300);
        assert_eq!(places.taken.load(Ordering::Relaxed), 0);
        assert!(places.shares.iter().all(|share| share.load(Ordering::Relaxed) == 0));
    }

    #[test]
    fn what_is_registered_is_told_from_what_is_not() {
        for (name, labels) in [
            ("www.example.net", 2),
            ("net", 2),
            (".", 2),
            ("www.bbc.co.uk", 3),
            ("www.lemonde.fr", 2),
            ("9.8.0.10.in-addr.arpa", 4),
            ("1.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", 10),
        ] {
            assert_eq!(registered(&name.parse().unwrap()), labels, "{name}");
        }
    }

    #[test]
    fn there_is_an_end_to_places_however_many_want_one() {
        let places = Arc::new(Places::new(64, SeedableRandomState::fixed()));
        let want = |n: u32| places.take(IpAddr::from(n.to_be_bytes()), &format!("www.n{n}.test").parse().unwrap());
        let held: Vec<Option<Place>> = (0..1_000).map(want).collect();
        assert_eq!(held.iter().flatten().count(), 64);
    }
}
