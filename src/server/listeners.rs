//! All that listens: bound before anything is served, and changed while it serves, when the configuration says so or an
//! interface has other addresses. Listeners that stay are not touched; those that go answer what they have been asked, and go
//! when those are open that take their place.

use std::mem;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io};

use arc_swap::ArcSwap;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use quinn::Endpoint;
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::bind::{self, BindError, Bound, Company};
use super::certificate::Certificates;
use super::encrypted::{self, Way};
use super::https::Doh;
use super::listen::Listen;
use super::responder::Responder;
use super::seats::Seats;
use super::tally::Listened;
use super::tcp::{Reception, Speaks};
use super::transport::Transport;
use super::{batch, files, listen, prefetch, quic, tcp, udp};
use crate::limits::LAST_ANSWERS_TIME_MAX;
use crate::problem::Problem;

/// How long a listener that goes still takes what was on its way to it when it was released: packets for which the kernel had
/// chosen its sockets, and handshakes by TCP.
const SETTLE: Duration = Duration::from_millis(100);

/// What holds for whoever connects from now on.
#[derive(Debug)]
pub(super) struct Terms {
    /// Proxies that say whose connections they hand on.
    pub(super) proxies: Vec<IpNet>,
    pub(super) doh: Arc<Doh>,
}

impl Terms {
    fn of(listen: &Listen) -> Self {
        let path = listen.encrypted.as_ref().map_or_else(|| encrypted::Config::default().path, |config| config.path.clone());
        Self { proxies: listen.proxies.clone(), doh: Arc::new(Doh { path }) }
    }
}

/// Sockets that are bound, in which the first queries wait.
pub struct Waiting {
    listen: Listen,
    certificates: Option<Arc<Certificates>>,
    sockets: Vec<(Way, SocketAddr, Bound)>,
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Config(#[from] Problem),
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl Waiting {
    /// Reads the certificate and binds. What will do, and may not be meant so, is told.
    pub fn bind(listen: &Listen) -> Result<(Self, Vec<Problem>), ListenError> {
        let certificates = listen.encrypted.as_ref().map(encrypted::Config::open).transpose()?;
        let (wanted, mut problems) = listen.resolve();
        let mut sockets = Vec::new();
        for (way, address) in wanted {
            let bound = bind::bind(way, address, listen.workers, Company::None)?;
            problems.extend(foreign(&bound));
            sockets.push((way, address, bound));
        }
        Ok((Self { listen: listen.clone(), certificates, sockets }, problems))
    }

    /// Where it will be answered, and how.
    pub fn addresses(&self) -> Vec<(Way, SocketAddr)> {
        self.sockets.iter().map(|(way, _, bound)| (*way, bound.address)).collect()
    }

    /// The SVCB records of `_dns.resolver.arpa`, as a master file has their data.
    pub fn designations(&self) -> Vec<String> {
        designations(&self.listen, &self.addresses())
    }

    /// Starts answering. Needs a tokio runtime around it.
    pub fn serve(self, responder: &Arc<Responder>) -> io::Result<Listeners> {
        tokio::spawn(prefetch::run(responder.due()));
        tokio::spawn(files::follow(responder.clone()));
        let terms = Arc::new(ArcSwap::from_pointee(Terms::of(&self.listen)));
        let (responder, seats) = (responder.clone(), Arc::default());
        let certificates = self.certificates.map(Shown::watch);
        let (open, leaving) = Default::default();
        let mut listeners = Listeners { responder, seats, terms, listen: self.listen, certificates, open, leaving };
        for (way, wanted, bound) in self.sockets {
            listeners.open(way, wanted, bound)?;
        }
        Ok(listeners)
    }
}

fn designations(listen: &Listen, addresses: &[(Way, SocketAddr)]) -> Vec<String> {
    listen.encrypted.as_ref().map(|config| config.designations(addresses)).unwrap_or_default()
}

/// An address that this host has not.
fn foreign(bound: &Bound) -> Option<Problem> {
    (!bound.is_here).then(|| {
        let problem = Problem::new(format!("expected an address of this host to listen on, got {}", bound.address));
        problem.hint("it is answered there as soon as this host has the address; see `ip address`").warning()
    })
}

/// What answers.
pub struct Listeners {
    responder: Arc<Responder>,
    /// Of all listeners together.
    seats: Arc<Seats>,
    terms: Arc<ArcSwap<Terms>>,
    listen: Listen,
    certificates: Option<Shown>,
    open: Vec<Listener>,
    leaving: Vec<Leaving>,
}

/// An endpoint of QUIC that takes no new connections. Those that it has need the socket, for a while.
struct Leaving {
    address: SocketAddr,
    at_once: CancellationToken,
    gone: JoinHandle<()>,
}

/// A certificate, and who watches its files.
struct Shown {
    certificates: Arc<Certificates>,
    watch: AbortHandle,
}

impl Shown {
    fn watch(certificates: Arc<Certificates>) -> Self {
        let watch = tokio::spawn(certificates.clone().watch()).abort_handle();
        Self { certificates, watch }
    }
}

/// What answers at one address.
struct Listener {
    way: Way,
    /// As it was asked for, where the port may be left to the kernel.
    wanted: SocketAddr,
    address: SocketAddr,
    stop: CancellationToken,
    /// The same for the threads that answer plain queries over UDP.
    stopped: Arc<AtomicBool>,
    udp: Vec<Arc<UdpSocket>>,
    tcp: Option<TcpListener>,
    endpoint: Option<Endpoint>,
    accepting: Vec<JoinHandle<()>>,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.way)
    }
}

impl Listeners {
    /// Where it is answered, and how.
    pub fn addresses(&self) -> Vec<(Way, SocketAddr)> {
        self.open.iter().map(|open| (open.way, open.address)).collect()
    }

    /// The SVCB records of `_dns.resolver.arpa`, as a master file has their data.
    pub fn designations(&self) -> Vec<String> {
        designations(&self.listen, &self.addresses())
    }

    /// Listens as `listen` says from now on, with the workers that there are. What could not be had of it is told; as long as
    /// there is such a thing, former listeners stay in force beside the new ones.
    pub async fn change(&mut self, listen: &Listen) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut listen = Listen { workers: self.listen.workers, ..listen.clone() };
        match (&self.certificates, &listen.encrypted) {
            (Some(shown), Some(config)) => encrypted::renew(&shown.certificates, config),
            (None, Some(config)) => match config.open() {
                Ok(certificates) => self.certificates = Some(Shown::watch(certificates)),
                Err(problem) => {
                    problems.push(problem);
                    listen.encrypted = None;
                }
            },
            (_, None) => {}
        }
        self.terms.store(Arc::new(Terms::of(&listen)));
        self.listen = listen;
        let (wanted, more) = self.listen.resolve();
        problems.extend(more);
        problems.extend(self.be(wanted).await);
        if self.listen.encrypted.is_none()
            && let Some(shown) = self.certificates.take()
        {
            shown.watch.abort();
        }
        problems
    }

    /// Looks at the interfaces again.
    pub async fn follow(&mut self) -> Vec<Problem> {
        let (wanted, _) = self.listen.resolve();
        self.be(wanted).await
    }

    /// Takes no more, and waits until what has come is answered, or [`LAST_ANSWERS_TIME_MAX`] is over.
    pub async fn close(mut self) {
        self.open.iter().for_each(Listener::release);
        for open in self.open {
            self.leaving.extend(open.end().await);
        }
        self.seats.close();
        let under_way = &self.responder.under_way;
        under_way.close();
        let _ = timeout(LAST_ANSWERS_TIME_MAX, under_way.wait()).await;
        // Those who ask by QUIC would not see from the end of the process that it is the end.
        self.leaving.iter().for_each(|leaving| leaving.at_once.cancel());
        for leaving in self.leaving {
            let _ = leaving.gone.await;
        }
    }

    /// Opens what is not open, and then closes what is not wanted, or as long as something is missing, what has been replaced.
    async fn be(&mut self, wanted: Vec<(Way, SocketAddr)>) -> Vec<Problem> {
        let mut leaving = mem::take(&mut self.open);
        let mut missing = Vec::new();
        for (way, address) in wanted {
            match leaving.iter().position(|open| (open.way, open.wanted) == (way, address)) {
                Some(at) => self.open.push(leaving.remove(at)),
                None => missing.push((way, address)),
            }
        }
        // One of them may stand in the way, as that of 127.0.0.1 does for 0.0.0.0: it answers until the other does.
        leaving.iter().for_each(Listener::share);
        let mut problems = Vec::new();
        for (way, address) in missing {
            problems.extend(self.add(way, address).await.err());
        }
        let (former, others) = leaving.into_iter().partition(|former| problems.is_empty() || self.has(former.place()));
        self.open.extend(others);
        self.retire(former).await;
        problems
    }

    /// Is something open that stands in the way there?
    fn has(&self, place: (Way, SocketAddr)) -> bool {
        self.open.iter().any(|open| overlap(open.place(), place))
    }

    /// Closes former listeners, in whose place others may be open already.
    async fn retire(&mut self, former: Vec<Listener>) {
        if former.is_empty() {
            return;
        }
        former.iter().for_each(Listener::release);
        sleep(SETTLE).await;
        for former in former {
            tracing::info!("{former}: not listened on any more");
            let is_replaced = self.has(former.place());
            let leaving = former.end().await;
            if is_replaced {
                leaving.iter().for_each(|leaving| leaving.at_once.cancel());
            }
            self.leaving.extend(leaving);
        }
    }

    /// Binds and starts to answer.
    async fn add(&mut self, way: Way, address: SocketAddr) -> Result<(), Problem> {
        let leaving = mem::take(&mut self.leaving).into_iter().filter(|leaving| !leaving.gone.is_finished());
        let (in_the_way, others) =
            leaving.partition::<Vec<_>, _>(|leaving| overlap((Way::Quic, leaving.address), (way, address)));
        self.leaving = others;
        for leaving in in_the_way {
            // Its socket would take packets of the new one.
            leaving.at_once.cancel();
            let _ = leaving.gone.await;
        }
        let bind = |company| bind::bind(way, address, self.listen.workers, company);
        let bound = bind(Company::None).or_else(|error| {
            // Whoever stands in the way then is a former listener, and shares.
            if !self.has((way, address)) && error.may_be_ours() { bind(Company::Former) } else { Err(error) }
        });
        let bound = bound.map_err(|error| Problem::new(error.to_string()))?;
        let (told, shown) = (foreign(&bound), bound.address);
        self.open(way, address, bound).map_err(|error| Problem::new(format!("cannot listen on {shown} ({way}): {error}")))?;
        match told {
            Some(problem) => tracing::warn!("{problem}"),
            None => tracing::info!("{shown} ({way}): listened on from now on"),
        }
        Ok(())
    }

    /// Starts to answer.
    fn open(&mut self, way: Way, wanted: SocketAddr, bound: Bound) -> io::Result<()> {
        let Bound { address, udp, tcp, .. } = bound;
        let udp: Vec<_> = udp.into_iter().map(Arc::new).collect();
        let (stop, stopped) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let mut open = Listener { way, wanted, address, stop, stopped, udp, tcp, endpoint: None, accepting: Vec::new() };
        let begun = self.begin(&mut open);
        match begun {
            Ok(()) => self.open.push(open),
            // Those of its parts that have begun end.
            Err(_) => drop(tokio::spawn(open.end())),
        }
        begun
    }

    fn begin(&self, open: &mut Listener) -> io::Result<()> {
        let listened = |transport| self.responder.tallies.listener(open.address.to_string(), transport);
        let reception = |transport| {
            let (responder, seats, terms) = (self.responder.clone(), self.seats.clone(), self.terms.clone());
            Arc::new(Reception { responder, listened: listened(transport), seats, terms })
        };
        let config = |protocols: &[&[u8]]| {
            let shown = self.certificates.as_ref().ok_or(io::ErrorKind::NotFound)?;
            shown.certificates.server_config(protocols).map_err(io::Error::other)
        };
        let acceptor = |protocols| io::Result::Ok(TlsAcceptor::from(Arc::new(config(protocols)?)));
        let (by_stream, by_quic) = match open.way {
            Way::Plain => (Some((Speaks::Dns, Transport::Tcp)), None),
            Way::Tls => (Some((Speaks::Tls(acceptor(&[b"dot"])?), Transport::Tls)), None),
            Way::Https => {
                let http3 = HeaderValue::try_from(format!("h3=\":{}\"", open.address.port())).map_err(io::Error::other)?;
                let speaks = Speaks::Https(acceptor(&[b"h2", b"http/1.1"])?, http3);
                (Some((speaks, Transport::Https)), Some((config(&[b"h3"])?, Transport::H3)))
            }
            Way::Quic => (None, Some((config(&[b"doq"])?, Transport::Quic))),
        };
        if let (Some(tcp), Some((speaks, transport))) = (&open.tcp, by_stream) {
            let listener = tokio::net::TcpListener::from_std(tcp.try_clone()?)?;
            let accepting = tcp::serve(listener, speaks, reception(transport), open.stop.clone());
            open.accepting.push(tokio::spawn(accepting));
        }
        match by_quic {
            Some((config, transport)) => {
                let socket = open.udp.first().ok_or(io::ErrorKind::NotFound)?.try_clone()?;
                let endpoint = quic::endpoint(socket, config, transport)?;
                open.endpoint = Some(endpoint.clone());
                let accepting = quic::serve(endpoint, reception(transport), open.stop.clone());
                open.accepting.push(tokio::spawn(accepting));
            }
            None => {
                let listened: Arc<Listened> = listened(Transport::Udp);
                for socket in open.udp.iter().filter(|_| open.way == Way::Plain) {
                    let (responder, stopped) = (self.responder.clone(), open.stopped.clone());
                    udp::serve(socket.clone(), responder, Handle::current(), &listened, stopped)?;
                }
            }
        }
        Ok(())
    }
}

/// Can one of them not be bound because of the other?
fn overlap((way, one): (Way, SocketAddr), (other_way, other): (Way, SocketAddr)) -> bool {
    way.shares_with(other_way) && listen::overlap(one, other)
}

impl Listener {
    fn place(&self) -> (Way, SocketAddr) {
        (self.way, self.address)
    }

    /// Lets another listener of ours bind what this one has, which may still have answers to send.
    fn share(&self) {
        let udp = self.udp.iter().map(|socket| SockRef::from(&**socket));
        for socket in udp.chain(self.tcp.iter().map(SockRef::from)) {
            let _ = socket.set_reuse_port(true);
        }
    }

    /// Has the kernel bring nothing more to it but what has begun.
    fn release(&self) {
        if self.way == Way::Plain {
            self.udp.iter().for_each(|socket| udp::release(socket));
        }
        if let Some(tcp) = &self.tcp {
            // A kernel that cannot (before Linux 5.7) brings connections until the end.
            let _ = batch::release_listener(tcp);
        }
        if let Some(endpoint) = &self.endpoint {
            endpoint.set_server_config(None);
        }
    }

    /// Takes no more; what has come is answered, and connections go on until they end.
    async fn end(self) -> Option<Leaving> {
        self.stop.cancel();
        self.stopped.store(true, Ordering::Relaxed);
        if self.way == Way::Plain {
            self.udp.iter().for_each(|socket| udp::wake(socket));
        }
        for accepting in self.accepting {
            let _ = accepting.await;
        }
        let endpoint = self.endpoint?;
        let at_once = CancellationToken::new();
        let hurry = at_once.clone();
        let gone = tokio::spawn(async move {
            // Clients that keep their connections busy have to look for another address some time.
            let idle = timeout(Transport::Quic.idle(), endpoint.wait_idle());
            tokio::select! {
                _ = idle => {}
                // What comes by now is for whoever has the address.
                () = hurry.cancelled() => self.udp.iter().for_each(|socket| udp::release(socket)),
            }
            quic::close(&[endpoint]).await;
        });
        Some(Leaving { address: self.address, at_once, gone })
    }
}
