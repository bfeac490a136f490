//! Who holds which end? The only file that knows every folder: it takes what was wanted, binds, opens the registry, starts
//! what listens, and waits for signals.
//!
//! The order matters. What may be refused is refused before anything is served; sockets are bound before the registry is
//! opened, so that the first queries wait in them; and DNS answers from what the registry has on disk before anything
//! else starts.

mod http;
mod insight;
mod setup;
mod system;
mod upkeep;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use crate::config::{Agent, Options};

use crate::api::Api;
use crate::config::{self, Config};
use crate::problem::Problem;
use crate::registry::{self, Registry};
use crate::server::{self, BindError, Interfaces, ListenError, Listeners, Responder, Serials, Waiting, Way};
use crate::tls;
use crate::upstream::{self, Forwarder};
use http::Http;
use insight::Insight;
use setup::{Here, setup};
use system::{Signals, Wanted, feed_watchdog, log_to_stderr, raise_open_files, tell_systemd};
use upkeep::{SERIALS_AHEAD, keep_answers, keep_serials, look_around, watch_upstreams};

/// How long the last requests may take when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often it is looked where upstreams are that are written by name, and when look-ups fail.
const FOLLOW_EVERY: Duration = Duration::from_secs(60);
const FOLLOW_AT_LEAST: Duration = Duration::from_secs(5);

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
    let told = Ready {
        dns: here.plain(),
        encrypted: here.addresses.iter().filter(|(way, _)| *way != Way::Plain).copied().collect(),
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
    let data = config.registry.data.clone();
    let serials = data.as_deref().map_or_else(Serials::default, Serials::restore);
    if let Some(folder) = &data {
        warn(serials.promise(folder, SERIALS_AHEAD).err().as_slice());
    }
    let responder = Responder::new(setup, registry.latest(), serials);
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
    if let Some(folder) = data {
        tasks.spawn(keep_answers(responder.clone(), folder.clone(), stop.clone()));
        tasks.spawn(keep_serials(serials, folder, stop.clone()));
    }
    ready(&told);
    tell_systemd(&[NotifyState::Ready]);

    let mut running = Running { config, listeners, http, registry, responder, named: (Instant::now(), 0) };
    let mut follow = tokio::time::interval(FOLLOW_AT_LEAST);
    follow.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
            _ = follow.tick(), if running.follows() => Change::Upstreams,
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
    /// Perhaps where upstreams are.
    Upstreams,
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
            Change::Upstreams => self.follow_upstreams().await,
        }
    }

    /// Answers as the configuration in force says, where we listen now.
    async fn set_up(&mut self) {
        let (setup, problems) = setup(&self.config, Some(&self.responder.setup()), &self.here()).await;
        warn(&problems);
        self.responder.replace(setup);
        self.watch_anew();
    }

    fn here(&self) -> Here {
        Here { addresses: self.listeners.addresses(), designations: self.listeners.designations() }
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

    /// May upstreams be elsewhere without a word?
    fn follows(&self) -> bool {
        let views = self.config.views.iter().map(|view| &view.forward);
        views.chain([&self.config.forward]).any(|forward| forward.has_names() || forward.asks_the_system())
    }

    /// Sees whether the system asks other servers now, and asks upstreams that are written by name, without connections, where
    /// they are: every minute, and sooner when a look-up came to nothing.
    async fn follow_upstreams(&mut self) {
        let setup = self.responder.setup();
        let plain = self.here().plain();
        let differs = |(view, forwarder): &(Option<&str>, &Arc<Forwarder>)| {
            self.forward(*view).is_some_and(|config| forwarder.differs_from_system(config, &plain))
        };
        if setup.forwarders().iter().any(differs) {
            tracing::info!("this machine asks other servers now, and so do we");
            return self.set_up().await;
        }
        let failed = setup.forwarders().iter().map(|(_, forwarder)| forwarder.counters.failed.get()).sum();
        if failed == self.named.1 && self.named.0.elapsed() < FOLLOW_EVERY {
            return;
        }
        self.named = (Instant::now(), failed);
        let mut has_moved = false;
        for (view, former) in setup.forwarders() {
            let Some(config) = self.forward(view).filter(|config| config.has_names()) else { continue };
            // Who cannot be found now is asked where it was.
            let (forwarder, _) = Forwarder::new(config, Some(former), &plain).await;
            if !forwarder.asks_the_same(former) {
                self.responder.replace_forwarder(former, forwarder);
                has_moved = true;
            }
        }
        if has_moved {
            tracing::info!("an upstream that is written by name has moved; it is asked where it is now");
            self.watch_anew();
        }
    }
}

fn warn(problems: &[Problem]) {
    for problem in problems {
        tracing::warn!("{problem}");
    }
}
