//! What goes on in the background, whichever setup is in force: who leads back here, where this host is, and what is kept over
//! a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, select_all};
use tokio_util::sync::CancellationToken;

use crate::config::host;
use crate::problem::Problem;
use crate::server::{Responder, Serials};
use crate::upstream::Forwarder;

/// How often it is seen which networks this host is in: it costs some 50 us, and who has just come there asks again.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(2);

/// How often upstreams' answers are written to the disk, so that a crash costs few of them.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// By how much serials of our zone may go ahead of what is on the disk: a start after a crash takes them so far ahead of the
/// clock.
pub(super) const SERIALS_AHEAD: Duration = Duration::from_secs(600);

/// Sees which upstreams lead back here, whichever configuration they are of.
pub(super) async fn watch_upstreams(responder: Arc<Responder>, stop: CancellationToken) {
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
pub(super) async fn look_around(responder: Arc<Responder>, stop: CancellationToken) {
    while tokio::time::timeout(LOOK_AROUND_EVERY, stop.cancelled()).await.is_err() {
        if let Ok(networks) = tokio::task::spawn_blocking(host::networks).await {
            responder.moved(&networks);
        }
    }
}

/// Keeps upstreams' answers over a restart: reads those of the last time, and writes them now and then and at the end.
pub(super) async fn keep_answers(responder: Arc<Responder>, folder: PathBuf, stop: CancellationToken) {
    let (responder, folder) = (&responder, &folder);
    // Both may take as long as the disk does, and nobody waits for either.
    let each = |did: &'static str, what: fn(&Forwarder, &Path) -> Result<usize, Problem>| async move {
        let setup = responder.setup();
        for (view, forwarder) in setup.forwarders().into_iter().filter(|(_, forwarder)| forwarder.keeps()) {
            let (forwarder, folder) = (forwarder.clone(), view.map_or(folder.clone(), |view| folder.join("views").join(view)));
            let work = move || {
                // Where it cannot be made is told when nothing can be written there.
                let _ = fs::create_dir_all(&folder);
                what(&forwarder, &folder)
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(count)) => tracing::debug!("{count} cached answers {did}"),
                Ok(Err(problem)) => tracing::warn!("{problem}"),
                Err(error) => tracing::error!("answers of upstreams are not kept over a restart: {error}"),
            }
        }
    };
    each("restored", Forwarder::restore).await;
    loop {
        let ends = tokio::time::timeout(SAVE_EVERY, stop.cancelled()).await.is_ok();
        each("saved", Forwarder::save).await;
        if ends {
            return;
        }
    }
}

/// Keeps the serial of our zone over a restart, also one that comes without an end.
pub(super) async fn keep_serials(serials: Serials, folder: PathBuf, stop: CancellationToken) {
    loop {
        let ends = tokio::time::timeout(SERIALS_AHEAD / 2, stop.cancelled()).await.is_ok();
        let (folder, ahead) = (folder.clone(), if ends { Duration::ZERO } else { SERIALS_AHEAD });
        if let Ok(Err(problem)) = tokio::task::spawn_blocking(move || serials.promise(&folder, ahead)).await {
            tracing::warn!("{problem}");
        }
        if ends {
            return;
        }
    }
}
