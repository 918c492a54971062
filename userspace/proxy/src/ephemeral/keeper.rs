//! Drops the roles of sessions that ended, and what is left of those that nobody remembers.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::places::Place;
use super::{Made, PATIENCE, State, sql};
use crate::cancels::Way;
use crate::catalog_reader::{Reached, Why, query};
use crate::door::Door;

/// How often what is left is looked for; the first time at once.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Connections of the daemon's own for this at once.
const AT_ONCE: usize = 8;

/// How often a role is tried to be dropped: after 0, 1 and 3 s; then it is left to be found.
const TRIES: u32 = 3;

/// How long the roles of the last sessions may take when the daemon stops.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Drops roles as their sessions end, and sweeps; for as long as the daemon runs, on a local set.
pub async fn keep(door: Arc<Door>) {
    let places = Rc::new(Semaphore::new(AT_ONCE));
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = door.roles.ended.notified() => {
                for made in take_ended(&door) {
                    let (door, places) = (Arc::clone(&door), Rc::clone(&places));
                    drop(spawn_local(async move {
                        let Ok(_place) = places.acquire().await else { return };
                        put_away(&door, made, TRIES).await;
                    }));
                }
            }
            _ = ticks.tick() => {
                let door = Arc::clone(&door);
                drop(spawn_local(async move {
                    for place in door.roles.places.all() {
                        sweep(&door, &place).await;
                    }
                }));
            }
        }
    }
}

/// Drops what is there still, when no session is any more; what takes too long is left to the next start.
pub async fn finish(door: &Arc<Door>) {
    let all: Vec<Made> = door.roles.known().values().map(|(made, _)| made.clone()).collect();
    let local = LocalSet::new();
    for made in all {
        let door = Arc::clone(door);
        drop(local.spawn_local(async move { put_away(&door, made, 1).await }));
    }
    if timeout(LAST_PATIENCE, local).await.is_err() {
        warn!("ephemeral roles are left to the next start");
    }
}

fn take_ended(door: &Door) -> Vec<Made> {
    let mut known = door.roles.known();
    let ended = known.values_mut().filter(|(_, state)| *state == State::Ended);
    ended
        .map(|(made, state)| {
            *state = State::Dropping;
            made.clone()
        })
        .collect()
}

/// Drops a role of a session that ended.
async fn put_away(door: &Arc<Door>, made: Made, tries: u32) {
    for tried in 1..=tries {
        match dropped(door, &made, made.reached()).await {
            Ok(()) => break,
            Err(why) if tried == tries => made.failed(door, "drop", &why),
            Err(_) => sleep(Duration::from_secs(u64::from(tried))).await,
        }
    }
    door.roles.known().remove(&made.role);
}

async fn dropped(door: &Arc<Door>, made: &Made, reached: Reached<'_>) -> Result<(), Why> {
    let maker = door.credentials.named(&made.place.credential).await.map_err(Why::Secret)?;
    let sql = sql::drop(&made.role);
    let work = query(door, reached, maker, &sql);
    timeout(PATIENCE, work).await.unwrap_or(Err(Why::Late))?;
    info!(role = %made.role, "a role is dropped");
    if let Err(error) = made.note(door, "role.dropped", "") {
        warn!(%error, "not recorded");
    }
    Ok(())
}

/// Drops what this node made at a place and nobody uses: of a daemon that was killed, of a drop that failed.
async fn sweep(door: &Arc<Door>, place: &Place) {
    match timeout(PATIENCE, left(door, place)).await.unwrap_or(Err(Why::Late)) {
        Ok((left, way)) => {
            for role in left {
                let made = Made::left(role.as_str().into(), place.clone(), way.clone());
                let reached = Reached { netns_cookie: None, ..made.reached() };
                if let Err(why) = dropped(door, &made, reached).await {
                    made.failed(door, "sweep", &why);
                }
            }
        }
        Err(why) => {
            let (target_name, why) = (&place.target, why.to_string());
            warn!(target_name, why, "roles that may be left can't be looked for");
        }
    }
}

/// The names of roles that are left.
async fn left(door: &Arc<Door>, place: &Place) -> Result<(Vec<String>, Way), Why> {
    let gone = |what: &str| Why::Secret(std::io::Error::other(what.to_owned()));
    let maker = door.credentials.named(&place.credential).await.map_err(Why::Secret)?;
    let rule = maker.ephemeral().ok_or_else(|| gone("it makes no roles any more"))?;
    let way = match &place.server_name {
        None => Way::Plain,
        Some(name) => {
            let target = door.targets.named(&place.target);
            let target = target.ok_or_else(|| gone("the target is gone"))?;
            Way::Tls(target.tls.clone(), name.as_str().into())
        }
    };
    let sql = sql::left(&rule.prefix, &sql::comment(&door.roles.node, &place.database));
    let (addr, database) = (place.addr, &*place.database);
    let reached = Reached { netns_cookie: None, addr, way: &way, database };
    let rows = query(door, reached, maker, &sql).await?;
    let names = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    let known = door.roles.known();
    let left = names.filter(|name| !known.contains_key(name.as_str())).collect();
    drop(known);
    Ok((left, way))
}
