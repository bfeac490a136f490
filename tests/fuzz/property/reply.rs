//! What upstreams say: kept and given again, nothing of it changes but its id, the letters of its question and its TTLs; and
//! so again from a file.

use std::time::{Duration, Instant};

use rollcall::dns::{Edns, Message, Names, Query, Rcode, Record};
use rollcall::resolve::cache::{Cache, Config, Key};
use rollcall::resolve::{filter, open_alias};

pub(crate) fn holds(octets: &[u8]) {
    let message = Message::parse(octets);
    filtered(octets);
    let Ok(message) = message else { return };
    let _ = open_alias(&message);
    if let [question] = &message.questions[..]
        && message.flags.response
    {
        let edns = message.edns.as_ref().map(|_| Edns::new(512));
        let query = Query { edns, ..Query::of(question.clone()) };
        // As it came, its pointers may lead anywhere, into TTLs that are counted down too; as anybody writes it, they do not.
        is_kept(octets, &query, None);
        let composed = message.compose(true);
        if composed.len() <= Message::MAX {
            is_kept(&composed, &query, Some(&message));
        }
    }
}

/// `message` is what has to come back.
fn is_kept(octets: &[u8], query: &Query, message: Option<&Message>) {
    let (now, clock) = (Instant::now(), Duration::from_secs(1_800_000_000));
    let cache = Cache::new(Config { size: 1 << 20, ..Config::default() });
    let key = Key::new(query, 3).expect("a query without options");
    let Some(entry) = cache.put(key.clone(), octets, now) else { return };
    assert!(entry.is_fresh(now), "what is kept is kept for a while");
    for age in [0, 1, 100_000] {
        let mut given = Vec::new();
        entry.write(&query.compose(), now + Duration::from_secs(age), &mut given);
        assert_eq!(given.len(), octets.len());
        if let Some(message) = message {
            let again = Message::parse(&given).expect("it is a message as before");
            assert_eq!((again.id, same(&again)), (query.id, same(&Message { flags: again.flags, ..message.clone() })));
        }
    }
    if let Some(denial) = cache.denial(&key, now)
        && let Some(answer) = denial.denied(query, now)
    {
        assert_eq!((answer.rcode, answer.answers.len()), (Rcode::NXDOMAIN, 0));
        Message::parse(&answer.compose(true)).expect("it can be written");
    }
    let mut file = Vec::new();
    assert_eq!(cache.save(1, now, clock, &mut file).expect("a buffer takes it"), 1);
    let other = Cache::new(Config { size: 1 << 20, ..Config::default() });
    assert_eq!(other.restore(1, now, clock, &mut &file[..]).expect("it was written a moment ago"), 1);
    let restored = other.get(&key).expect("found by the same key");
    assert_eq!(restored.octets(), entry.octets());
    assert_eq!(other.find(&Names::All, now).len(), 1);
}

/// A message without what may change.
fn same(message: &Message) -> Message {
    let mut same = Message { id: 0, ..message.clone() };
    let records = same.answers.iter_mut().chain(&mut same.authorities).chain(&mut same.additionals);
    records.for_each(|record: &mut Record| record.ttl = 0);
    same
}

/// What is left of it behind a filter is a message.
fn filtered(octets: &[u8]) {
    let config = filter::Config {
        private_addresses: true,
        bogus: vec!["192.0.0.0/8".parse().expect("a network")],
        ..Default::default()
    };
    let _ = config.ignores(octets);
    if let Some(left) = config.apply(octets.to_vec()) {
        assert!(left == octets || Message::parse(&left).is_ok());
    }
}
