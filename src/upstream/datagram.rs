//! Upstreams as they are asked by datagram: by which sockets, and in which letter case.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::link::Link;
use super::udp;
use crate::dns::is_bare;
use crate::problem::Problem;
use crate::resolve::forward::is_good;

/// How long an upstream that refuses a question in random letter case may take to answer it as the client wrote.
const TRIAL: Duration = Duration::from_millis(300);

/// The sockets, which all upstreams share; clones have the same.
#[derive(Debug, Clone)]
pub(super) struct Datagrams {
    v4: Arc<udp::Pool>,
    v6: Arc<udp::Pool>,
    /// Questions go out in random letter case, as far as upstreams bear it.
    pub(super) random_case: bool,
}

impl Datagrams {
    /// By the same sockets as before, if there are any.
    pub(super) fn new(random_case: bool, previous: Option<&Self>) -> Self {
        match previous {
            Some(previous) => Self { random_case, ..previous.clone() },
            None => Self { v4: udp::Pool::v4().into(), v6: udp::Pool::v6().into(), random_case },
        }
    }

    fn pool(&self, upstream: SocketAddr) -> &udp::Pool {
        if upstream.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// Asks in random letter case as far as the upstream bears it, or, when it `is_first`, may show that it does; says since
    /// when, and what came of it.
    pub(super) async fn ask(
        &self,
        link: &Link,
        address: SocketAddr,
        octets: &[u8],
        is_first: bool,
    ) -> (Instant, io::Result<Vec<u8>>) {
        let (pool, sent, spelling) = (self.pool(address), Instant::now(), &link.spelling);
        let is_proved = spelling.is_proved();
        let random = self.random_case && is_bare(octets) && spelling.is_kept(sent) && (is_proved || is_first);
        let case = match random.then(udp::random_case).transpose() {
            Ok(case) => case,
            Err(error) => return (sent, Err(error)),
        };
        if case.is_some() {
            spelling.tries(sent);
        }
        match pool.ask(address, octets, case).await {
            Err(error) if error.kind() == udp::OTHER_CASE => self.ask_as_written(link, address, octets).await,
            Ok(reply) if case.is_none() => {
                if is_good(&reply) && spelling.as_written(Instant::now()) {
                    tell_changed(link);
                }
                (sent, Ok(reply))
            }
            // Is it the case that it refuses?
            Ok(refusal) if !is_proved && !is_good(&refusal) => {
                let again = Instant::now();
                match tokio::time::timeout(TRIAL, pool.ask(address, octets, None)).await {
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
        link: &Link,
        address: SocketAddr,
        octets: &[u8],
    ) -> (Instant, io::Result<Vec<u8>>) {
        let now = Instant::now();
        if link.spelling.changed(now) {
            tell_changed(link);
        }
        (now, self.pool(address).ask(address, octets, None).await)
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
