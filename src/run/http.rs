//! Where the HTTP API is answered, which may change while it serves.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api};
use crate::problem::Problem;
use crate::server::bind_http;

/// The listener of the HTTP API.
pub(super) struct Http {
    api: Api,
    /// As it was asked for, where the port may be left to the kernel; `None` for nowhere.
    wanted: Option<SocketAddr>,
    serving: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Http {
    /// Answers at `bound`, which is what was `wanted`. Needs a tokio runtime around it.
    pub(super) fn serve(api: Api, wanted: Option<SocketAddr>, bound: Option<TcpListener>) -> io::Result<Self> {
        let mut http = Self { api, wanted, serving: None };
        bound.map(|bound| http.begin(bound)).transpose()?;
        Ok(http)
    }

    /// Answers there from now on, and nowhere else; what could not be had is told, and then it stays where it was.
    pub(super) async fn change(&mut self, wanted: Option<SocketAddr>) -> Option<Problem> {
        if wanted == self.wanted {
            return None;
        }
        let Some(address) = wanted else {
            self.end().await;
            self.wanted = None;
            return None;
        };
        let mut bound = bind_http(address);
        if bound.as_ref().is_err_and(|error| error.may_be_ours()) {
            // Its former listener may stand in the way, as that of 127.0.0.1 does for 0.0.0.0.
            self.end().await;
            bound = bind_http(address);
        }
        match bound {
            Ok(bound) => {
                self.end().await;
                self.wanted = wanted;
                match self.begin(bound) {
                    Ok(()) => {
                        tracing::info!("{address} (http): listened on from now on");
                        None
                    }
                    Err(error) => Some(Problem::new(format!("cannot listen on {address} (http): {error}"))),
                }
            }
            Err(error) => {
                let mut problem = error.to_string();
                if let Some(former) = self.wanted.filter(|_| self.serving.is_none()) {
                    let again = bind_http(former).map_err(|error| error.to_string());
                    let again = again.and_then(|bound| self.begin(bound).map_err(|error| error.to_string()));
                    if let Err(more) = again {
                        // The next reload tries both.
                        self.wanted = None;
                        problem = format!("{problem}\n{more}");
                    }
                }
                Some(Problem::new(problem))
            }
        }
    }

    /// Answers no more but what is under way.
    pub(super) async fn end(&mut self) {
        if let Some((stop, served)) = self.serving.take() {
            stop.cancel();
            let _ = served.await;
        }
    }

    fn begin(&mut self, bound: TcpListener) -> io::Result<()> {
        let (listener, stop) = (tokio::net::TcpListener::from_std(bound)?, CancellationToken::new());
        let served = tokio::spawn(api::serve(listener, self.api.clone(), stop.clone()));
        self.serving = Some((stop, served));
        Ok(())
    }
}
