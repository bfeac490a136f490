//! Block lists are read anew when their files change, in the background: until all of them are read, the former ones count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

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
        let mut look_again = None;
        // What changed between the reading of the lists and the watch is seen now.
        for blocks in all {
            let former = blocks.clone();
            let reloaded = spawn_blocking(move || blocks.reload(Instant::now())).await.ok().flatten();
            let until = reloaded.as_ref().map_or(&*former, |(reloaded, _)| reloaded).doubted_until();
            look_again = look_again.into_iter().chain(until).min();
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
            // Without one it is disabled.
            () = sleep_until(look_again.unwrap_or_else(Instant::now).into()), if look_again.is_some() => continue,
        }
        // A folder that others write to all the time is never quiet.
        watch.quiet(QUIET, PATIENCE).await;
    }
}
