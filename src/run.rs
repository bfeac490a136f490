//! Who holds which end? The only file that knows every folder: it takes what was wanted, binds, opens the registry, starts
//! what listens, and waits for signals.
//!
//! The order matters. What may be refused is refused before anything is served; sockets are bound before the registry is
//! opened, so that the first queries wait in them; and DNS answers from what the registry has on disk before anything
//! else starts.

mod http;
mod insight;

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use crate::config::{Agent, Options};

use crate::api::Api;
use crate::config::{self, Config, View, host};
use crate::problem::Problem;
use crate::registry::{self, Registry};
use crate::resolve::answer::{Discovery, Settings};
use crate::resolve::block::{self, Blocks};
use crate::resolve::local::{self, Local};
use crate::resolve::rewrite::Rewrites;
use crate::resolve::zone::{self, Zones};
use crate::server::{
    self, BindError, Clients, Cookies, Interfaces, ListenError, Listeners, QueryLog, QueryLogConfig, Responder, Setup, Waiting,
    Way,
};
use crate::tls;
use crate::upstream::{self, Forwarder};
use http::Http;
use insight::Insight;

/// How long the last requests may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often it is seen which networks this host is in: it costs some 50 us, and who has just come there asks again.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(2);

/// How often it is looked where upstreams are that are written by name, and when look-ups fail.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
const FOLLOW_AT_LEAST: Duration = Duration::from_secs(5);

/// How often upstreams' answers are written to the disk, so that a crash costs few of them.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Where a server that is ready can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub dns: Vec<SocketAddr>,
    /// Where it can be asked over an encrypted connection, and how.
    pub encrypted: Vec<(Way, SocketAddr)>,
    pub http: Option<SocketAddr>,
    /// The discovery domain, without the dot at its end.
    pub domain: String,
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error("cannot start {what}")]
    Start { what: &'static str, source: io::Error },
}

impl From<ListenError> for Error {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Config(problem) => Self::Config(vec![problem]),
            ListenError::Bind(error) => Self::Bind(error),
        }
    }
}

impl Error {
    /// Is it what the user wrote, so that another start ends the same way?
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Config(_))
    }
}

/// Serves until SIGTERM or SIGINT. `ready` is called once, when questions are answered.
pub fn serve(options: Options, ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    // Libraries that use TLS by themselves take their cryptography from there too.
    tls::provider();
    let config = config::load(&options).map_err(Error::Config)?;
    log_to_stderr(&config.log_level);
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Start { what: "the runtime", source })?;
    let result = runtime.block_on(run(&options, config, ready));
    // Look-ups that nobody waits for any more do not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Sockets to clients, upstreams and checked services need more files than the usual 1,024; the system allows more to
/// whoever asks. One that does not leaves things as they are: what is out of files is told where it happens.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

async fn run(options: &Options, config: Config, ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    warn(&config.warnings);
    let start = |what| move |source| Error::Start { what, source };
    let mut signals = Signals::new().map_err(start("the handling of signals"))?;
    // Before the addresses are looked up that it tells of changes of.
    let interfaces = Interfaces::watch().inspect_err(|error| tracing::warn!("interfaces are not watched: {error}")).ok();
    let (waiting, problems) = Waiting::bind(&config.dns)?;
    warn(&problems);
    let http = config.http.map(server::bind_http).transpose()?;
    let here = Here { addresses: waiting.addresses(), designations: waiting.designations() };
    let (dns, encrypted) = here.addresses.iter().partition::<Vec<_>, _>(|(way, _)| *way == Way::Plain);
    let told = Ready {
        dns: dns.into_iter().map(|(_, address)| address).collect(),
        encrypted,
        http: http.as_ref().and_then(|listener| listener.local_addr().ok()),
        domain: config.settings.domain.to_string().trim_end_matches('.').to_owned(),
    };

    let registry = Registry::open(config.registry.clone(), config.identity.clone())?;
    let (setup, problems) = tokio::select! {
        made = setup(&config, None, &here) => made,
        () = signals.end() => {
            registry.close().await;
            return Ok(());
        }
    };
    warn(&problems);
    let responder = Responder::new(setup, registry.latest());
    let listeners = waiting.serve(&responder).map_err(start("a DNS listener"))?;

    warn(&registry.reload().await);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let insight = Insight::new(responder.clone(), registry.clone());
    let api = Api::new(registry.clone()).with_resolver(Arc::new(insight));
    let http = Http::serve(api, config.http, http).map_err(start("the HTTP API"))?;
    let (running, stopping) = (registry.clone(), stop.clone());
    tasks.spawn(async move { running.run(stopping).await });
    tasks.spawn(feed_watchdog(stop.clone()));
    tasks.spawn(watch_upstreams(responder.clone(), stop.clone()));
    tasks.spawn(look_around(responder.clone(), stop.clone()));
    if let Some(folder) = config.registry.data.clone() {
        tasks.spawn(keep_answers(responder.clone(), folder, stop.clone()));
    }
    ready(&told);
    tell_systemd(&[NotifyState::Ready]);

    let mut running = Running { config, listeners, http, registry, responder, named: (Instant::now(), 0) };
    loop {
        let changed = async {
            match &interfaces {
                Some(interfaces) => interfaces.changed().await,
                None => std::future::pending().await,
            }
        };
        let change = tokio::select! {
            wanted = signals.next() => match wanted {
                Wanted::End => break,
                Wanted::Reload => {
                    tell_systemd(&[NotifyState::Reloading]);
                    running.reload(options).await
                }
            },
            () = changed => match running.follow().await {
                true => Change::Addresses,
                false => continue,
            },
            () = tokio::time::sleep(FOLLOW_AT_LEAST), if running.has_names() => Change::Names,
        };
        // The end does not wait for what may take long; another SIGHUP does, and is heard then.
        tokio::select! {
            () = running.take_up(change) => {}
            () = signals.end() => break,
        }
    }
    let Running { listeners, mut http, registry, responder, .. } = running;
    tell_systemd(&[NotifyState::Stopping]);
    stop.cancel();
    tokio::join!(listeners.close(), http.end());
    let _ = tokio::time::timeout(FAREWELL, async { while tasks.join_next().await.is_some() {} }).await;
    registry.close().await;
    if let Some(log) = responder.setup().log() {
        log.end(FAREWELL);
    }
    Ok(())
}

/// Sees which upstreams lead back here, whichever configuration they are of.
async fn watch_upstreams(responder: Arc<Responder>, stop: CancellationToken) {
    let watch = async {
        let mut in_doubt = false;
        loop {
            let setup = responder.setup();
            let forwarders = setup.forwarders();
            let next = join_all(forwarders.iter().map(|(_, forwarder)| forwarder.watch(in_doubt))).await;
            let Some(next) = next.into_iter().min() else { continue };
            let doubts = forwarders.iter().map(|(_, forwarder)| forwarder.doubt(next).boxed());
            (in_doubt, _, _) = select_all(doubts).await;
        }
    };
    let _ = stop.run_until_cancelled(watch).await;
}

/// Sees which networks this host is in, as its interfaces come and go.
async fn look_around(responder: Arc<Responder>, stop: CancellationToken) {
    while tokio::time::timeout(LOOK_AROUND_EVERY, stop.cancelled()).await.is_err() {
        if let Ok(networks) = tokio::task::spawn_blocking(host::networks).await {
            responder.moved(&networks);
        }
    }
}

/// Where we are asked.
struct Here {
    addresses: Vec<(Way, SocketAddr)>,
    /// What tells clients of plain DNS where the encrypted listeners are.
    designations: Vec<String>,
}

/// What changes while it runs.
struct Running {
    /// The one in force.
    config: Config,
    listeners: Listeners,
    http: Http,
    registry: Registry,
    responder: Arc<Responder>,
    /// When it was looked last where upstreams are that are written by name, and how many look-ups had come to nothing by then.
    named: (Instant, u64),
}

/// What is otherwise than it was, so that other answers may be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// The configuration was read again, and with it whatever it names is; or it has errors, and only services are.
    Configuration { is_good: bool },
    /// The addresses that are listened on.
    Addresses,
    /// Perhaps where upstreams are that are written by name.
    Names,
}

impl Running {
    /// Reads the configuration again, and listens as it says. One with an error changes nothing, and what was in force stays
    /// in force.
    async fn reload(&mut self, options: &Options) -> Change {
        match config::load(options) {
            Ok(mut config) => {
                warn(&config.warnings);
                warn(self.config.keep_until_restart(&mut config).as_slice());
                let mut problems = self.listeners.change(&config.dns).await;
                problems.extend(self.http.change(config.http).await);
                if problems.iter().any(|problem| !problem.is_warning) {
                    tracing::error!("not everything can be listened on that the configuration asks for; former listeners stay");
                }
                warn(&problems);
                self.config = config;
                Change::Configuration { is_good: true }
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("the configuration has errors; the last good one stays in force");
                Change::Configuration { is_good: false }
            }
        }
    }

    /// Listens on the addresses that interfaces have now; says whether those are others.
    async fn follow(&mut self) -> bool {
        let before = self.listeners.addresses();
        warn(&self.listeners.follow().await);
        self.listeners.addresses() != before
    }

    /// Answers as is due after a change. It may take long, and can be given up: what was in force stays so.
    async fn take_up(&mut self, change: Change) {
        match change {
            Change::Configuration { is_good } => {
                if is_good {
                    self.set_up().await;
                    tracing::info!("the configuration was read again");
                }
                warn(&self.registry.reload().await);
                tell_systemd(&[NotifyState::Ready]);
            }
            Change::Addresses => self.set_up().await,
            Change::Names => self.follow_names().await,
        }
    }

    /// Answers as the configuration in force says, where we listen now.
    async fn set_up(&mut self) {
        let here = Here { addresses: self.listeners.addresses(), designations: self.listeners.designations() };
        let (setup, problems) = setup(&self.config, Some(&self.responder.setup()), &here).await;
        warn(&problems);
        self.responder.replace(setup);
        self.watch_anew();
    }

    /// Has all upstreams looked at again: others may be in force.
    fn watch_anew(&self) {
        self.responder.setup().forwarders().iter().for_each(|(_, forwarder)| forwarder.watch_anew());
    }

    /// What is wanted of the forwarder of a view, or of the main one.
    fn forward(&self, view: Option<&str>) -> Option<&upstream::Config> {
        match view {
            None => Some(&self.config.forward),
            Some(name) => self.config.views.iter().find(|view| view.name == name).map(|view| &view.forward),
        }
    }

    fn has_names(&self) -> bool {
        self.config.forward.has_names() || self.config.views.iter().any(|view| view.forward.has_names())
    }

    /// Asks upstreams that are written by name, without connections, where they are now. Every minute, and sooner when a
    /// look-up came to nothing.
    async fn follow_names(&mut self) {
        let setup = self.responder.setup();
        let failed = setup.forwarders().iter().map(|(_, forwarder)| forwarder.counters.failed.get()).sum();
        if failed == self.named.1 && self.named.0.elapsed() < FOLLOW_EVERY {
            return;
        }
        self.named = (Instant::now(), failed);
        let addresses = self.listeners.addresses();
        let plain: Vec<SocketAddr> =
            addresses.iter().filter(|(way, _)| *way == Way::Plain).map(|(_, address)| *address).collect();
        let mut moved = None;
        for (view, former) in setup.forwarders() {
            let Some(config) = self.forward(view).filter(|config| config.has_names()) else { continue };
            // Who cannot be found now is asked where it was.
            let (forwarder, _) = Forwarder::new(config, Some(former), &plain).await;
            if !forwarder.asks_the_same(former) {
                let whole = moved.unwrap_or_else(|| Setup::clone(&setup));
                moved = Some(whole.with_forwarder(former, forwarder));
            }
        }
        if let Some(moved) = moved {
            tracing::info!("an upstream that is written by name has moved; it is asked where it is now");
            self.responder.replace(moved);
            self.watch_anew();
        }
    }
}

/// Keeps upstreams' answers over a restart: reads those of the last time, and writes them now and then and at the end.
async fn keep_answers(responder: Arc<Responder>, folder: PathBuf, stop: CancellationToken) {
    let (responder, folder) = (&responder, &folder);
    // Both may take as long as the disk does, and nobody waits for either.
    let with = |what: fn(&Forwarder, &Path) -> Result<usize, Problem>| async move {
        let setup = responder.setup();
        for (view, forwarder) in setup.forwarders().into_iter().filter(|(_, forwarder)| forwarder.keeps()) {
            let (forwarder, folder) = (forwarder.clone(), view.map_or(folder.clone(), |view| folder.join("views").join(view)));
            let with = move || {
                // Where it cannot be made is told when nothing can be written there.
                let _ = fs::create_dir_all(&folder);
                what(&forwarder, &folder)
            };
            match tokio::task::spawn_blocking(with).await {
                Ok(Ok(count)) => tracing::debug!("{count} answers of upstreams were read from the disk, or written to it"),
                Ok(Err(problem)) => tracing::warn!("{problem}"),
                Err(error) => tracing::error!("answers of upstreams are not kept over a restart: {error}"),
            }
        }
    };
    with(Forwarder::restore).await;
    loop {
        let ends = tokio::time::timeout(SAVE_EVERY, stop.cancelled()).await.is_ok();
        with(Forwarder::save).await;
        if ends {
            return;
        }
    }
}

/// What answers questions, as the configuration has it; what could not be had of it is told, and the rest serves.
async fn setup(config: &Config, former: Option<&Setup>, here: &Here) -> (Setup, Vec<Problem>) {
    let wanted = Parts { local: &config.local, zones: &config.zones, blocks: &config.blocks, forward: &config.forward };
    let (main, mut problems) = answering(config, &wanted, former, None, here).await;
    let log = query_log(config.query_log.as_ref(), former.and_then(Setup::log));
    problems.extend(log.as_ref().err().cloned());
    let networks = config.views.iter().map(|view| view.clients.clone()).collect();
    let clients = Clients::new(&config.clients, networks, &host::networks());
    let main = main.with_clients(clients).with_log(log.unwrap_or_default());
    let mut views = Vec::new();
    for View { name, local, zones, blocks, forward, .. } in &config.views {
        let own = former.and_then(|former| former.all().find(|view| view.view() == Some(name)));
        let (view, more) = answering(config, &Parts { local, zones, blocks, forward }, own, Some(&main), here).await;
        problems.extend(more.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>());
        views.push((name.clone(), view));
    }
    (main.with_views(views), problems)
}

/// The parts of the configuration that a view may have of its own.
struct Parts<'a> {
    local: &'a local::Config,
    zones: &'a zone::Config,
    blocks: &'a [block::Config],
    forward: &'a upstream::Config,
}

/// What answers as it is wanted. A view has in common with the `main` one what it wants as that does.
async fn answering(
    config: &Config,
    &Parts { local, zones, blocks, forward }: &Parts<'_>,
    former: Option<&Setup>,
    main: Option<&Setup>,
    here: &Here,
) -> (Setup, Vec<Problem>) {
    let mut problems = Vec::new();
    let local = match main.filter(|_| *local == config.local) {
        Some(main) => main.local().clone(),
        None => {
            let (mut local, more) = Local::load(local);
            problems.extend(more);
            problems.extend(local.designate(&here.designations));
            Arc::new(local)
        }
    };
    let zones = match (main.filter(|_| *zones == config.zones), &zones.folder) {
        (Some(main), _) => main.zones.clone(),
        (None, Some(folder)) => {
            let (zones, more) = Zones::load(folder, former.map(|former| &*former.zones));
            problems.extend(more);
            Arc::new(zones)
        }
        (None, None) => Arc::new(Zones::none()),
    };
    let forwarder = match main.filter(|_| *forward == config.forward) {
        Some(main) => main.forwarder.clone(),
        None => {
            let former = former.map(|former| &*former.forwarder);
            let plain = here.addresses.iter().filter(|(way, _)| *way == Way::Plain);
            let plain: Vec<SocketAddr> = plain.map(|(_, address)| *address).collect();
            let (forwarder, more) = Forwarder::new(forward, former, &plain).await;
            problems.extend(more);
            Arc::new(forwarder)
        }
    };
    let blocks = match main.filter(|_| *blocks == config.blocks) {
        Some(main) => main.blocks.clone(),
        None => {
            let (configs, known) = (blocks.to_vec(), former.map(|former| former.blocks.clone()));
            // Lists may be long, and the runtime has others to serve.
            let load = move || Blocks::load(&configs, known.as_deref(), Instant::now());
            let (blocks, more) = tokio::task::spawn_blocking(load).await.unwrap_or_default();
            problems.extend(more);
            Arc::new(blocks)
        }
    };
    let settings = Settings { recursors: forwarder.has_upstreams(), ..config.settings.clone() };
    let cookies = match (&config.cookie_secret, main.or(former)) {
        (Some(secret), _) => Cookies::new(secret.clone()),
        (None, Some(known)) => known.cookies().clone(),
        (None, None) => Cookies::default(),
    };
    let setup = Setup::new(Discovery::new(settings), local, zones, forwarder);
    // All views have the same ones, and what is wrong with them is told once.
    let (rewrites, more) = Rewrites::new(&config.rewrites, config.local.local_ttl);
    problems.extend(more.into_iter().filter(|_| main.is_none()));
    let setup = setup.with_blocks(blocks).with_rewrites(rewrites);
    (setup.with_nsid(config.nsid.as_deref()).with_cookies(cookies), problems)
}

/// The log of queries that is wanted; the one that is written already, if it is that.
fn query_log(wanted: Option<&QueryLogConfig>, former: Option<&Arc<QueryLog>>) -> Result<Option<Arc<QueryLog>>, Problem> {
    let Some(wanted) = wanted else { return Ok(None) };
    if let Some(former) = former.filter(|former| former.config() == wanted) {
        former.open_anew();
        return Ok(Some(former.clone()));
    }
    let told = |error| Problem::new(format!("queries are not logged: {error}"));
    QueryLog::start(wanted.clone()).map(Some).map_err(told)
}

fn warn(problems: &[Problem]) {
    for problem in problems {
        tracing::warn!("{problem}");
    }
}

/// What is heard of libraries: of HTTP/2 nothing that clients do wrong, of which they could fill the log.
const OTHERS: &str = "h2=error,warn";

/// Logs go to standard error; `RUST_LOG` may say more than the configuration. The journal has its own clock.
fn log_to_stderr(level: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .or_else(|_| tracing_subscriber::EnvFilter::try_new(format!("rollcall={level},{OTHERS}")))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr);
    let builder = builder.with_ansi(io::stderr().is_terminal());
    // A second server in one process keeps the first one's log.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => builder.without_time().try_init(),
        None => builder.try_init(),
    };
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Reload,
    End,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        let (hangup, terminate) = (signal(SignalKind::hangup())?, signal(SignalKind::terminate())?);
        Ok(Self { hangup, terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.hangup.recv() => Wanted::Reload,
            _ = self.terminate.recv() => Wanted::End,
            _ = self.interrupt.recv() => Wanted::End,
        }
    }

    /// Waits for the end alone: a SIGHUP is remembered until somebody asks for what is next.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd, if it started us, how we are.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd was not told: {error}");
    }
}

/// Shows systemd's watchdog that the runtime still turns, twice in each of its periods.
async fn feed_watchdog(stop: CancellationToken) {
    let Some(period) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(period / 2);
    loop {
        tokio::select! {
            _ = ticks.tick() => tell_systemd(&[NotifyState::Watchdog]),
            () = stop.cancelled() => return,
        }
    }
}
