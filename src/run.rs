//! Who holds which end?

use std::net::SocketAddr;
use std::path::PathBuf;

/// What the command line asks of a server; each value that is given wins over the configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Our own configuration (TOML).
    pub config: Option<PathBuf>,
    pub dns: Vec<SocketAddr>,
    pub http: Option<SocketAddr>,
    pub upstreams: Vec<String>,
    pub services: Vec<PathBuf>,
    pub data: Option<PathBuf>,
    pub workers: Option<usize>,
    pub domain: Option<String>,
    pub node: Option<String>,
    pub datacenter: Option<String>,
    /// Take Consul's side wherever the two differ.
    pub compat_consul: bool,
    /// Given when the server starts as `rollcall agent`.
    pub agent: Option<Agent>,
}

/// What Consul's own agent flags ask for, beyond what [`Options`] has a word for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agent {
    /// Nothing is kept on disk, and the defaults are those of one server on this machine.
    pub dev: bool,
    /// Consul's configuration files and folders, in the order in which they were given.
    pub config: Vec<PathBuf>,
    pub client: Option<String>,
    pub alt_domain: Option<String>,
    pub dns_port: Option<i32>,
    pub http_port: Option<i32>,
    pub log_level: Option<String>,
    pub enable_script_checks: Option<bool>,
    pub enable_local_script_checks: Option<bool>,
    /// Flags that are known and have no effect here; each is worth a warning.
    pub without_effect: Vec<&'static str>,
}

/// Where a server that is ready can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    pub dns: Vec<SocketAddr>,
    pub http: Option<SocketAddr>,
    /// The discovery domain, without the dot at its end.
    pub domain: String,
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this build has no server")]
    Absent,
}

impl Error {
    /// Whether what the user wrote is at fault, so that starting again would find the same mistake.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        false
    }
}

/// Serves until it is told to end. `ready` is called once, when questions are answered.
pub fn serve(_options: Options, _ready: impl FnOnce(&Ready)) -> Result<(), Error> {
    Err(Error::Absent)
}
