//! Block lists are read anew when their files change, in the background: until all of them are read, the former ones count.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::responder::Responder;
use crate::resolve::block::Blocks;
use crate::watch::Watch;

/// How long files must be quiet before they are read, so that a list is not read while it is written.
const QUIET: Duration = Duration::from_millis(500);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows the lists of whatever setup is in force, for as long as the process lives.
pub(super) async fn follow(responder: Arc<Responder>) {
    let mut watch = None;
    loop {
        let setup = responder.setup();
        let all: Vec<Arc<Blocks>> = setup.block_lists().into_iter().map(|(_, blocks)| blocks.clone()).collect();
        drop(setup);
        if all.is_empty() {
            watch = None;
            responder.replaced.notified().await;
            continue;
        }
        if watch.is_none() {
            match Watch::new() {
                Ok(new) => watch = Some(new),
                Err(error) => {
                    tracing::warn!("block lists are not watched: {error}; send SIGHUP to have them read again");
                    return;
                }
            }
        }
        let Some(watch) = &mut watch else { continue };
        // Folders of lists, and what those that do not exist would be in.
        watch.over(all.iter().flat_map(|blocks| blocks.paths()));
        // What changed between the reading of the lists and the watch is seen now.
        for blocks in all {
            let former = blocks.clone();
            let reloaded = spawn_blocking(move || blocks.reload()).await.ok().flatten();
            if let Some((reloaded, problems)) = reloaded {
                problems.iter().for_each(|problem| tracing::warn!("{problem}"));
                let names: usize = reloaded.lists().map(|(_, names, _)| names).sum();
                tracing::info!("block lists were read again; they have {names} names now");
                responder.replace_blocks(&former, reloaded);
            }
        }
        tokio::select! {
            () = watch.changed() => {}
            () = responder.replaced.notified() => continue,
        }
        // A folder that others write to all the time is never quiet.
        watch.quiet(QUIET, PATIENCE).await;
    }
}
