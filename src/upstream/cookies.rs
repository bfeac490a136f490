//! Cookies from upstreams (RFC 7873, RFC 9018): who answers by datagram shows that it has seen the question, which whoever
//! forges a reply from elsewhere has not.
//!
//! Whether an upstream gives cookies, and knows its own again, is asked with questions of our own, so that no client's question
//! is put at risk where something on the way drops what it does not know. One that does is sent its cookie with every datagram
//! from then on, in an OPT record that is added where the client sent none; what it says of cookies is taken out of the reply.
//! A reply without ours is never taken, and is nobody's fault either: the question goes by TCP.

use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sockets::any_towards;
use crate::dns::{
    EdnsOption, Message, Rcode, add_option, drop_edns, drop_options, find_option, has_opt, has_option, option, rcode,
};
use crate::metrics::Count;
use crate::resolve::passing::add_edns;

/// Octets of our part, and of both parts at most (RFC 7873, 4).
const OWN_OCTETS: usize = 8;
const WHOLE_OCTETS_MAX: usize = 40;
/// When the next part of an upstream's is taken. Some give another with every reply, and each holds for an hour (RFC 9018,
/// 4.3).
const KEPT_AT_LEAST: Duration = Duration::from_secs(60);
/// A reply without the right cookie adds one to the doubt, and a right one takes one from it. This is what a question adds that
/// had no answer over TCP either: where that happens to more than one in so many, cookies cost more than they are worth.
const UNANSWERED: u32 = 16;
/// The doubt from which on it is held that the upstream gives none: three such questions in a row.
const DOUBT_MAX: u32 = 3 * UNANSWERED;
/// When an upstream is asked again that gave none, and one that did not answer. The former gets another cookie of ours (RFC
/// 9018, 3).
const AGAIN_AFTER_NONE: Duration = Duration::from_secs(3_600);
const AGAIN_AFTER_SILENCE: Duration = Duration::from_secs(60);
/// How often it is seen whether our own address is still the same: one cookie at two addresses would tell that they are ours.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What goes with a question: our part, and the upstream's once it is known.
#[derive(Debug, Clone, Copy)]
pub struct Cookie {
    octets: [u8; WHOLE_OCTETS_MAX],
    length: usize,
    /// A new one is welcome.
    is_old: bool,
}

impl Cookie {
    fn new(own: [u8; OWN_OCTETS], theirs: &[u8], is_old: bool) -> Self {
        let mut octets = [0; WHOLE_OCTETS_MAX];
        let (first, second) = octets.split_at_mut(OWN_OCTETS);
        first.copy_from_slice(&own);
        let length = second.iter_mut().zip(theirs).map(|(place, octet)| *place = *octet).count();
        Self { octets, length: OWN_OCTETS + length, is_old }
    }

    fn octets(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }

    /// As an option of a query.
    pub(super) fn option(&self) -> EdnsOption {
        EdnsOption { code: option::COOKIE, data: self.octets().into() }
    }

    /// The cookie that the reply to a question with this one gives; `None` when it gives none.
    pub(super) fn given_by(&self, reply: &[u8]) -> Option<Self> {
        let own = self.octets.first_chunk()?;
        self.answered(reply).filter(|theirs| !theirs.is_empty()).map(|theirs| Self::new(*own, theirs, true))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.octets() == other.octets()
    }

    /// Puts it into a query that is nothing but a question and maybe an OPT record.
    pub fn put(&self, query: &mut Vec<u8>) {
        if !has_opt(query) {
            add_edns(query, false);
        }
        add_option(query, option::COOKIE, self.octets());
    }

    /// The upstream's part, when the reply has ours.
    fn answered<'a>(&self, reply: &'a [u8]) -> Option<&'a [u8]> {
        let (own, theirs) = find_option(reply, option::COOKIE)?.split_at_checked(OWN_OCTETS)?;
        (self.octets.starts_with(own) && matches!(theirs.len(), 0 | 8..=32)).then_some(theirs)
    }
}

/// What is known of one upstream's cookies.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    state: Mutex<State>,
    /// Replies without the right one.
    pub(super) missing: Count,
}

#[derive(Debug, Default)]
struct State {
    own: [u8; OWN_OCTETS],
    /// The upstream's part, as long as it is held that it gives any, and since when; empty when our own address has changed.
    theirs: Option<(Vec<u8>, Instant)>,
    doubt: u32,
    /// The address from which it is asked, and when that was looked at.
    from: Option<(IpAddr, Instant)>,
    /// When it may be asked whether it gives cookies.
    again: Option<Instant>,
}

impl Cookies {
    /// When it is to be asked whether it gives cookies; `None` as long as it does.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let state = self.lock();
        state.theirs.is_none().then(|| state.again.unwrap_or(now))
    }

    /// Our part alone, with which it is asked, if that is due.
    pub(super) fn trial(&self, upstream: SocketAddr, now: Instant) -> Option<Cookie> {
        let mut state = self.lock();
        if state.theirs.is_some() || state.again.is_some_and(|again| now < again) {
            return None;
        }
        state.again = Some(now + AGAIN_AFTER_SILENCE);
        state.own = random()?;
        state.from = Some((address_towards(upstream)?, now));
        Some(Cookie::new(state.own, &[], true))
    }

    /// It gives this one in the end, or none.
    pub(super) fn settle(&self, given: Option<&Cookie>, now: Instant) {
        let mut state = self.lock();
        let theirs =
            given.filter(|given| given.octets.starts_with(&state.own)).and_then(|given| given.octets().get(OWN_OCTETS..));
        state.theirs = theirs.map(|theirs| (theirs.into(), now));
        (state.doubt, state.again) = (0, Some(now + AGAIN_AFTER_NONE));
    }

    /// What goes with a question to it; `None` when it gives none.
    pub(super) fn current(&self, upstream: SocketAddr, now: Instant) -> Option<Cookie> {
        let mut state = self.lock();
        state.theirs.as_ref()?;
        if state.from.is_none_or(|(_, then)| now.saturating_duration_since(then) >= LOOK_EVERY) {
            // Where that cannot be seen, it is as it was.
            let before = state.from.map(|(from, _)| from);
            let from = address_towards(upstream).or(before)?;
            if before != Some(from) {
                state.own = random()?;
                state.theirs = Some((Vec::new(), now));
            }
            state.from = Some((from, now));
        }
        let (theirs, since) = state.theirs.as_ref()?;
        let is_old = state.doubt > 0 || theirs.is_empty() || now.saturating_duration_since(*since) >= KEPT_AT_LEAST;
        Some(Cookie::new(state.own, theirs, is_old))
    }

    /// Takes the cookie out of a reply to a question with `cookie`, and the OPT record too where the client sent none. False
    /// when the reply is not to be taken: it has not the right one, or says that ours was not.
    pub(super) fn take_back(&self, cookie: &Cookie, reply: &mut Vec<u8>, had_edns: bool, now: Instant) -> bool {
        let is_refused = rcode(reply) == Some(Rcode::BADCOOKIE);
        let Some(theirs) = cookie.answered(reply) else {
            self.missing.raise(1);
            self.doubt(1, now);
            return false;
        };
        if (is_refused || cookie.is_old) && !theirs.is_empty() {
            self.learn(cookie, theirs, now);
        }
        drop_options(reply, &[option::COOKIE]);
        if has_option(reply, option::COOKIE) {
            // It does not stand last.
            let Ok(mut message) = Message::parse(reply) else { return false };
            message.edns.iter_mut().for_each(|edns| edns.options.retain(|other| other.code != option::COOKIE));
            *reply = message.compose(true);
        }
        if !had_edns {
            drop_edns(reply);
        }
        !is_refused
    }

    fn learn(&self, cookie: &Cookie, theirs: &[u8], now: Instant) {
        let mut state = self.lock();
        if state.theirs.is_some() && cookie.octets.starts_with(&state.own) {
            state.theirs = Some((theirs.into(), now));
            state.doubt = state.doubt.saturating_sub(1);
        }
    }

    fn doubt(&self, by: u32, now: Instant) {
        let mut state = self.lock();
        state.doubt += by;
        if state.theirs.is_some() && state.doubt >= DOUBT_MAX {
            (state.theirs, state.again) = (None, Some(now + AGAIN_AFTER_NONE));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question to which there was a reply without the right cookie, and no answer yet. If this is dropped, there was none.
pub(super) struct Unanswered<'a>(&'a Cookies);

impl<'a> Unanswered<'a> {
    pub(super) fn yet(cookies: &'a Cookies) -> Self {
        Self(cookies)
    }

    /// There was one after all.
    pub(super) fn answered(self) {
        mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.doubt(UNANSWERED, Instant::now());
    }
}

/// Eight octets that nobody can foretell.
fn random() -> Option<[u8; OWN_OCTETS]> {
    let mut octets = [0; OWN_OCTETS];
    getrandom::fill(&mut octets).ok()?;
    Some(octets)
}

/// The address of ours from which datagrams go there. Nothing is sent.
fn address_towards(upstream: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any_towards(upstream)).ok()?;
    socket.connect(upstream).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dns::{Class, Edns, Query, Question, Type};

    const UPSTREAM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

    fn query(edns: Option<Edns>) -> Query {
        let question = Question { name: "www.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN };
        Query { edns, ..Query::of(question) }
    }

    /// A reply whose OPT record has this cookie.
    fn reply(code: Rcode, cookie: Option<&[u8]>) -> Vec<u8> {
        let mut message = query(None).response(code);
        let options = cookie.into_iter().map(|data| EdnsOption { code: option::COOKIE, data: data.into() }).collect();
        message.edns = Some(Edns { options, ..Edns::new(1232) });
        message.compose(true)
    }

    /// An upstream's cookies that is known to have given this part.
    fn known(theirs: &[u8], now: Instant) -> Cookies {
        let cookies = Cookies::default();
        let asked = cookies.trial(UPSTREAM, now).expect("it is due");
        let given = asked.given_by(&reply(Rcode::NXDOMAIN, Some(&[asked.octets(), theirs].concat())));
        cookies.settle(given.as_ref(), now);
        cookies
    }

    #[test]
    fn rfc9018_3_who_gives_none_is_asked_again_later_with_another() {
        let (cookies, now) = (Cookies::default(), Instant::now());
        assert_eq!(cookies.due(now), Some(now));
        let first = cookies.trial(UPSTREAM, now).unwrap();
        assert!(cookies.trial(UPSTREAM, now).is_none(), "not while that is under way");
        assert_eq!(cookies.due(now), Some(now + AGAIN_AFTER_SILENCE), "if no answer comes");
        for no_cookie in [None, Some(&[7; 8][..]), Some(&[7; 24]), Some(first.octets())] {
            assert!(first.given_by(&reply(Rcode::NXDOMAIN, no_cookie)).is_none(), "{no_cookie:?}");
        }
        cookies.settle(None, now);
        assert_eq!((cookies.current(UPSTREAM, now).is_some(), cookies.due(now)), (false, Some(now + AGAIN_AFTER_NONE)));
        assert!(!cookies.trial(UPSTREAM, now + AGAIN_AFTER_NONE).unwrap().is_same(&first));
        assert_eq!(known(&[5; 16], now).due(now), None);
    }

    #[test]
    fn rfc7873_5_2_a_question_gets_the_cookie_and_its_reply_gives_it_back() {
        let now = Instant::now();
        let cookies = known(&[5; 16], now);
        let cookie = cookies.current(UPSTREAM, now).unwrap();
        assert_eq!(cookie.octets()[OWN_OCTETS..], [5; 16]);
        let edns = Edns { dnssec_ok: true, ..Edns::new(1232) };
        for edns in [None, Some(edns)] {
            let mut octets = query(edns.clone()).compose();
            cookie.put(&mut octets);
            let sent = Query::parse(&octets).unwrap().edns.unwrap();
            assert_eq!((sent.dnssec_ok, &*sent.option(option::COOKIE).unwrap().data), (edns.is_some(), cookie.octets()));
            let mut reply = reply(Rcode::NOERROR, Some(cookie.octets()));
            assert!(cookies.take_back(&cookie, &mut reply, edns.is_some(), now));
            let message = Message::parse(&reply).unwrap();
            assert_eq!(message.edns.map(|edns| edns.options), edns.map(|_| Vec::new()), "nothing of it is passed on");
        }
        // Also where another record stands behind it.
        let mut odd = reply(Rcode::NOERROR, Some(cookie.octets()));
        odd[11] += 1;
        odd.extend([0, 0, 16, 0, 1, 0, 0, 0, 9, 0, 2, 1, b'x']);
        assert!(cookies.take_back(&cookie, &mut odd, true, now) && !has_option(&odd, option::COOKIE));
        assert_eq!(Message::parse(&odd).unwrap().additionals.len(), 1);
    }

    #[test]
    fn rfc7873_5_3_a_reply_without_the_right_cookie_is_not_taken_and_many_in_a_row_end_cookies() {
        let now = Instant::now();
        let cookies = known(&[5; 16], now);
        let cookie = cookies.current(UPSTREAM, now).unwrap();
        let mut wrong = cookie.octets().to_vec();
        wrong[0] ^= 1;
        let short = &cookie.octets()[..12];
        for (number, without) in (1..=DOUBT_MAX).zip([None, Some(&wrong[..]), Some(short)].into_iter().cycle()) {
            assert!(!cookies.take_back(&cookie, &mut reply(Rcode::NOERROR, without), true, now));
            assert_eq!(cookies.current(UPSTREAM, now).is_some(), number < DOUBT_MAX);
        }
        assert_eq!(cookies.due(now), Some(now + AGAIN_AFTER_NONE));
        assert_eq!(cookies.missing.get(), u64::from(DOUBT_MAX));
    }

    #[test]
    fn rfc9018_5_one_of_several_servers_that_gives_none_ends_cookies_only_where_tcp_is_closed_too() {
        let now = Instant::now();
        for (one_in, has_tcp, is_kept) in [(2, true, true), (3, false, false), (10, false, false), (20, false, true)] {
            let cookies = known(&[5; 16], now);
            for number in 0..300 {
                let Some(cookie) = cookies.current(UPSTREAM, now) else { break };
                let given = (number % one_in > 0).then(|| cookie.octets());
                let is_right = cookies.take_back(&cookie, &mut reply(Rcode::NOERROR, given), true, now);
                assert_eq!(is_right, given.is_some());
                if !is_right {
                    let unanswered = Unanswered::yet(&cookies);
                    if has_tcp {
                        unanswered.answered();
                    }
                }
            }
            assert_eq!(cookies.current(UPSTREAM, now).is_some(), is_kept, "one in {one_in} without, TCP: {has_tcp}");
        }
    }

    #[test]
    fn rfc7873_5_3_the_upstreams_part_is_taken_when_ours_is_old_or_refused() {
        let now = Instant::now();
        let cookies = known(&[5; 16], now);
        let theirs = |then| cookies.current(UPSTREAM, then).unwrap().octets()[OWN_OCTETS..].to_vec();
        let hears = |code, part: u8, then| {
            let cookie = cookies.current(UPSTREAM, then).unwrap();
            let whole = [&cookie.octets()[..OWN_OCTETS], &[part; 16]].concat();
            cookies.take_back(&cookie, &mut reply(code, Some(&whole)), true, then)
        };
        assert!(hears(Rcode::NOERROR, 6, now) && theirs(now) == [5; 16], "it is young");
        assert!(hears(Rcode::NOERROR, 7, now + KEPT_AT_LEAST) && theirs(now + KEPT_AT_LEAST) == [7; 16]);
        assert!(!hears(Rcode::BADCOOKIE, 8, now + KEPT_AT_LEAST) && theirs(now + KEPT_AT_LEAST) == [8; 16]);
    }

    #[test]
    fn rfc9018_3_at_another_address_of_ours_the_cookie_is_another() {
        let now = Instant::now();
        let cookies = known(&[5; 16], now);
        let before = cookies.current(UPSTREAM, now).unwrap();
        cookies.lock().from = Some((Ipv4Addr::new(192, 0, 2, 1).into(), now));
        assert!(cookies.current(UPSTREAM, now).unwrap().is_same(&before), "it is looked at once a second");
        let after = cookies.current(UPSTREAM, now + LOOK_EVERY).unwrap();
        assert_eq!(after.octets().len(), OWN_OCTETS, "what was given to the former one is of no use");
        assert_ne!(after.octets(), &before.octets()[..OWN_OCTETS]);
        let given = [after.octets(), &[6; 16]].concat();
        assert!(cookies.take_back(&after, &mut reply(Rcode::NOERROR, Some(&given)), true, now + LOOK_EVERY));
        assert_eq!(cookies.current(UPSTREAM, now + LOOK_EVERY).unwrap().octets(), given);
    }
}
