//! Upstreams as they are asked by datagram: by which sockets, in which letter case, and with which cookie.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cookies::{Cookie, Unanswered};
use super::link::Link;
use super::sockets::Ports;
use super::udp::{self, Lost};
use crate::dns::{Class, Edns, LetterCase, Name, Query, Question, Type, has_opt, is_bare};
use crate::limits;
use crate::problem::Problem;
use crate::resolve::forward::is_good;

/// How long an upstream that refuses a question in random letter case may take to answer it as the client wrote.
const TRIAL: Duration = Duration::from_millis(300);

/// The sockets, which all upstreams share; clones have the same.
#[derive(Debug, Clone)]
pub(super) struct Datagrams {
    v4: Arc<udp::Pool>,
    v6: Arc<udp::Pool>,
    /// From which they leave.
    pub(super) ports: Option<Ports>,
    /// Questions go out in random letter case, as far as upstreams bear it.
    pub(super) random_case: bool,
    /// Upstreams that give cookies are shown them.
    pub(super) cookies: bool,
}

impl Datagrams {
    /// By the same sockets as before, if there are any that will do.
    pub(super) fn new(random_case: bool, cookies: bool, ports: Option<Ports>, previous: Option<&Self>) -> Self {
        match previous.filter(|previous| previous.ports == ports) {
            Some(previous) => Self { random_case, cookies, ..previous.clone() },
            None => Self { v4: udp::Pool::v4(ports).into(), v6: udp::Pool::v6(ports).into(), ports, random_case, cookies },
        }
    }

    fn pool(&self, upstream: SocketAddr) -> &udp::Pool {
        if upstream.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// Asks in random letter case as far as the upstream bears it, or, when it `is_first`, may show that it does; says since
    /// when, and what came of it.
    pub(super) async fn ask(
        &self,
        link: &Arc<Link>,
        address: SocketAddr,
        octets: &[u8],
        is_first: bool,
    ) -> (Instant, Result<Vec<u8>, Lost>) {
        let (sent, spelling) = (Instant::now(), &link.spelling);
        let is_proved = spelling.is_proved();
        let random = self.random_case && is_bare(octets) && spelling.is_kept(sent) && (is_proved || is_first);
        let case = match random.then(udp::random_case).transpose() {
            Ok(case) => case,
            Err(error) => return (sent, Err(error.into())),
        };
        if case.is_some() {
            spelling.tries(sent);
        }
        match self.exchange(link, address, octets, case).await {
            Err(Lost::OtherCase) => self.ask_as_written(link, address, octets).await,
            Ok(reply) if case.is_none() => {
                if is_good(&reply) && spelling.as_written(Instant::now()) {
                    tell_changed(link);
                }
                (sent, Ok(reply))
            }
            // Is it the case that it refuses?
            Ok(refusal) if !is_proved && !is_good(&refusal) => {
                let again = Instant::now();
                match tokio::time::timeout(TRIAL, self.exchange(link, address, octets, None)).await {
                    Ok(Ok(reply)) if is_good(&reply) => {
                        if spelling.changed(again) {
                            tell_changed(link);
                        }
                        (again, Ok(reply))
                    }
                    _ => (sent, Ok(refusal)),
                }
            }
            Ok(reply) => {
                spelling.kept(1);
                (sent, Ok(reply))
            }
            Err(error) => (sent, Err(error)),
        }
    }

    /// Asks once more, as the client wrote, where a question came back in another case than that in which it was sent.
    pub(super) async fn ask_as_written(
        &self,
        link: &Arc<Link>,
        address: SocketAddr,
        octets: &[u8],
    ) -> (Instant, Result<Vec<u8>, Lost>) {
        let now = Instant::now();
        link.spelling.others.raise(1);
        if link.spelling.changed(now) {
            tell_changed(link);
        }
        (now, self.exchange(link, address, octets, None).await)
    }

    /// Asks with one datagram, with the cookie that the upstream has given; by TCP when no reply with that comes of it.
    pub(super) async fn exchange(
        &self,
        link: &Arc<Link>,
        address: SocketAddr,
        octets: &[u8],
        case: Option<LetterCase>,
    ) -> Result<Vec<u8>, Lost> {
        let cookie = if is_bare(octets) { self.cookie(link, Instant::now()) } else { None };
        let Some(cookie) = cookie else { return self.pool(address).ask(address, octets, case).await };
        match self.ask_with(link, address, octets, case, &cookie).await {
            Err(Lost::NoCookie(cookie)) => self.ask_without(link, address, octets, case, &cookie).await,
            other => other,
        }
    }

    /// Asks with one datagram that has this cookie.
    async fn ask_with(
        &self,
        link: &Link,
        address: SocketAddr,
        octets: &[u8],
        case: Option<LetterCase>,
        cookie: &Cookie,
    ) -> Result<Vec<u8>, Lost> {
        let mut query = octets.to_vec();
        cookie.put(&mut query);
        let mut reply = self.pool(address).ask(address, &query, case).await?;
        let is_right = link.cookies.take_back(cookie, &mut reply, has_opt(octets), Instant::now());
        if is_right { Ok(reply) } else { Err(Lost::NoCookie(*cookie)) }
    }

    /// Goes on where a reply had not the right cookie, which was this.
    pub(super) async fn ask_without(
        &self,
        link: &Arc<Link>,
        address: SocketAddr,
        octets: &[u8],
        case: Option<LetterCase>,
        cookie: &Cookie,
    ) -> Result<Vec<u8>, Lost> {
        // It may have said which one it wants to see (RFC 7873, 5.3).
        if let Some(other) = self.cookie(link, Instant::now()).filter(|other| !other.is_same(cookie)) {
            match self.ask_with(link, address, octets, case, &other).await {
                Err(Lost::NoCookie(_)) => {}
                other => return other,
            }
        }
        tracing::debug!("upstream {link}: a reply without the right cookie, asked for again by TCP");
        let unanswered = Unanswered::yet(&link.cookies);
        let (_, reply) = link.ask(octets).await?;
        unanswered.answered();
        Ok(reply)
    }

    /// What goes with a question to an upstream.
    pub(super) fn cookie(&self, link: &Link, now: Instant) -> Option<Cookie> {
        link.address().filter(|_| self.cookies).and_then(|address| link.cookies.current(address, now))
    }

    /// When an upstream is to be asked for a cookie; never when there is a connection to it, which shows as well that who
    /// answers has seen the question.
    pub(super) fn cookie_due(&self, link: &Link, now: Instant) -> Option<Instant> {
        let is_asked = link.by_datagram().is_some() && !link.watched.leads_back();
        link.cookies.due(now).filter(|_| self.cookies && is_asked)
    }

    /// Asks an upstream for a cookie, with the question for a name that nobody can guess: as long as there is no cookie, it is
    /// the name that a forger would have to know. Then asks with that cookie: it may be that the whole of it does not come
    /// through.
    pub(super) async fn ask_for_cookie(&self, link: &Link, name: Name) {
        let Some(address) = link.address() else { return };
        let Some(own) = link.cookies.trial(address, Instant::now()) else { return };
        let question = Question { name, qtype: Type::HINFO, qclass: Class::IN };
        let mut given = own;
        for _ in 0..2 {
            let edns = Edns { options: vec![given.option()], ..Edns::new(limits::UDP_PAYLOAD) };
            let query = Query { edns: Some(edns), ..Query::of(question.clone()) }.compose();
            let Ok(reply) = self.pool(address).ask(address, &query, None).await else { return };
            let Some(cookie) = given.given_by(&reply) else { return link.cookies.settle(None, Instant::now()) };
            given = cookie;
        }
        link.cookies.settle(Some(&given), Instant::now());
    }

    /// A listener has had so many good replies to what it sent by itself, in random case if that was due.
    pub(super) fn answered(&self, link: &Link, in_random_case: bool, count: u32) {
        if in_random_case {
            link.spelling.kept(count);
        } else if self.random_case && link.spelling.as_written(Instant::now()) {
            tell_changed(link);
        }
    }
}

/// Tells that an upstream is asked in random letter case no more.
fn tell_changed(link: &Link) {
    let problem = Problem::new(format!(
        "upstream {link}: expected questions answered, and given back, in the letter case in which they are sent"
    ));
    let hint = "it is asked as clients write them, which is a little easier to forge; try other software there";
    tracing::warn!("{}", problem.hint(hint));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::bootstrap::Place;
    use super::super::peer::right;
    use super::super::udp_peer::query;
    use super::*;
    use crate::dns::{EdnsOption, Message, RData, Rcode, Record, option};

    /// A server by UDP and TCP that gives cookies, and at whose datagrams a forger has guessed all but that.
    async fn with_forger(forge: impl Fn(&Query) -> Message + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
        let streams = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = streams.local_addr().unwrap();
        let datagrams = tokio::net::UdpSocket::bind(address).await.unwrap();
        let by_stream = Arc::new(AtomicUsize::new(0));
        let count = by_stream.clone();
        tokio::spawn(async move {
            let mut room = [0; 1232];
            while let Ok((length, from)) = datagrams.recv_from(&mut room).await {
                let query = Query::parse(&room[..length]).unwrap();
                let cookie =
                    query.edns.as_ref().and_then(|edns| edns.option(option::COOKIE)).map(|option| option.data.to_vec());
                datagrams.send_to(&forge(&query).compose(true), from).await.unwrap();
                let mut message = Message::parse(&right(&room[..length])).unwrap();
                if let (Some(edns), Some(cookie)) = (&mut message.edns, cookie) {
                    let whole = [&cookie[..8], &[9; 16]].concat();
                    edns.options = vec![EdnsOption { code: option::COOKIE, data: whole.into() }];
                }
                datagrams.send_to(&message.compose(true), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = streams.accept().await {
                let Ok(length) = stream.read_u16().await else { continue };
                let mut query = vec![0; usize::from(length)];
                stream.read_exact(&mut query).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let reply = right(&query);
                stream.write_all(&[&u16::try_from(reply.len()).unwrap().to_be_bytes(), &reply[..]].concat()).await.unwrap();
            }
        });
        (address, by_stream)
    }

    #[tokio::test]
    async fn rfc7873_5_3_who_forges_a_reply_has_no_cookie_and_is_not_believed() {
        let lie = |query: &Query, cookie: Option<&[u8]>| {
            let mut message = query.response(Rcode::NOERROR);
            let lie = RData::A([203, 0, 113, 66].into());
            message.answers.push(Record::new(query.question.name.clone(), 60, lie));
            let options = cookie.map(|data| EdnsOption { code: option::COOKIE, data: data.into() });
            message.edns = Some(Edns { options: options.into_iter().collect(), ..Edns::new(1232) });
            message
        };
        for cookie in [None, Some(&[0; 8][..]), Some(&[0; 24])] {
            let (address, by_stream) = with_forger(move |query| lie(query, cookie)).await;
            let link = Arc::new(Link::new(address.into(), Place::At(address)));
            let asked = query("www.example.net", true).compose();
            let believed = async |with_cookie| {
                let datagrams = Datagrams::new(true, with_cookie, None, None);
                let reply = datagrams.exchange(&link, address, &asked, None).await.unwrap();
                let message = Message::parse(&reply).unwrap();
                message.answers[0].data.clone()
            };
            let now = Instant::now();
            let own = link.cookies.trial(address, now).unwrap();
            let whole = [&own.option().data[..], &[9; 16]].concat();
            let reply = lie(&Query::parse(&asked).unwrap(), Some(&whole)).compose(true);
            link.cookies.settle(own.given_by(&reply).as_ref(), now);
            let truth = RData::A([192, 0, 2, 1].into());
            assert_eq!(believed(true).await, truth, "{cookie:?}");
            assert_eq!(by_stream.load(Ordering::SeqCst), 1, "it is asked by TCP");
            assert_ne!(believed(false).await, truth, "without a cookie it is");
        }
    }
}
