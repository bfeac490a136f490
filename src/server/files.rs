//! Hosts files, leases, zone files and block lists are read anew when they change, in the background, and nothing but what has
//! changed: until it is read, what was read before counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep_until;

use super::responder::Responder;
use super::setup::Setup;
use crate::clock::unix_time;
use crate::problem::Problem;
use crate::watch::Watch;

/// How long files must be quiet before they are read, so that a file is not read while it is written.
const QUIET: Duration = Duration::from_millis(500);
/// How long that is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often they are looked at whatever the kernel tells: it is silent about network file systems, about what is behind a
/// link, and about a file that is mounted by itself, as a container's hosts file is.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Follows the files of whatever setup is in force, for as long as the process lives.
pub(super) async fn follow(responder: Arc<Responder>) {
    let (mut watch, mut is_told) = (None, false);
    loop {
        let setup = responder.setup();
        let (locals, zones, lists) =
            (of(&setup, |setup| &setup.local), of(&setup, |setup| &setup.zones), of(&setup, |setup| &setup.blocks));
        drop(setup);
        let paths = locals.iter().flat_map(|local| local.paths());
        let paths =
            paths.chain(zones.iter().flat_map(|zones| zones.paths())).chain(lists.iter().flat_map(|lists| lists.paths()));
        let paths: Vec<PathBuf> = paths.map(Path::to_owned).collect();
        if paths.is_empty() {
            watch = None;
            responder.replaced.notified().await;
            continue;
        }
        if watch.is_none() {
            match Watch::new() {
                Ok(new) => watch = Some(new),
                Err(error) if !is_told => {
                    let every = LOOK_EVERY.as_secs();
                    tracing::warn!(
                        "hosts files, zones and block lists are not watched, but looked at every {every} s: {error}"
                    );
                    is_told = true;
                }
                Err(_) => {}
            }
        }
        if let Some(watch) = &mut watch {
            // Folders, and what those that do not exist would be in.
            watch.over(paths.iter().map(PathBuf::as_path));
        }
        let mut look_again = Instant::now() + LOOK_EVERY;
        // What changed between the reading of the files and the watch is seen now.
        for local in locals {
            let local = renew(
                &responder,
                |setup| &mut setup.local,
                local,
                |local| {
                    let (new, problems) = local.reload(unix_time().as_secs())?;
                    // Leases are written anew all the time.
                    let told = (!new.differs_in_leases_alone(local))
                        .then(|| format!("local data was read again; {} names are known now", new.len()));
                    Some((new, problems, told))
                },
            )
            .await;
            if let Some(until) = local.leased_until() {
                let left = Duration::from_secs(until).saturating_sub(unix_time());
                look_again = look_again.min(Instant::now() + left.min(LOOK_EVERY));
            }
        }
        for zones in zones {
            renew(
                &responder,
                |setup| &mut setup.zones,
                zones,
                |zones| {
                    let (zones, problems) = zones.reload()?;
                    let told = format!("zone files were read again; there are {} zones now", zones.apexes().len());
                    Some((zones, problems, Some(told)))
                },
            )
            .await;
        }
        for lists in lists {
            let lists = renew(
                &responder,
                |setup| &mut setup.blocks,
                lists,
                |lists| {
                    let (lists, problems) = lists.reload(Instant::now())?;
                    let names: usize = lists.lists().map(|(_, names, _)| names).sum();
                    Some((lists, problems, Some(format!("block lists were read again; they have {names} names now"))))
                },
            )
            .await;
            look_again = lists.doubted_until().map_or(look_again, |until| until.min(look_again));
        }
        tokio::select! {
            () = changed(&mut watch) => {}
            () = responder.replaced.notified() => continue,
            () = sleep_until(look_again.into()) => {}
        }
        if let Some(watch) = &mut watch {
            // A folder that others write to all the time is never quiet.
            watch.quiet(QUIET, PATIENCE).await;
        }
    }
}

/// Waits until the kernel tells of a change; for ever where it cannot.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// This part of a setup and of each of its views, each once.
fn of<T>(setup: &Setup, part: fn(&Setup) -> &Arc<T>) -> Vec<Arc<T>> {
    setup.each(part).into_iter().map(|(_, part)| part.clone()).collect()
}

/// What was read again, what is wrong with it, and what there is now, where that is worth a word.
type Reloaded<T> = (T, Vec<Problem>, Option<String>);

/// Puts what `reload` makes of a part in force in its place, and says with it what there is now; returns what counts then.
async fn renew<T: Send + Sync + 'static>(
    responder: &Arc<Responder>,
    part: fn(&mut Setup) -> &mut Arc<T>,
    former: Arc<T>,
    reload: fn(&T) -> Option<Reloaded<T>>,
) -> Arc<T> {
    let (responder, known) = (responder.clone(), former.clone());
    // Files may be long, and the runtime has others to serve.
    let renewed = spawn_blocking(move || {
        let (new, problems, told) = reload(&known)?;
        let new = Arc::new(new);
        responder.replace_part(part, &known, &new);
        problems.iter().for_each(|problem| tracing::warn!("{problem}"));
        told.iter().for_each(|told| tracing::info!("{told}"));
        Some(new)
    });
    renewed.await.ok().flatten().unwrap_or(former)
}
