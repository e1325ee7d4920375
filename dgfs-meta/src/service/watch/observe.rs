//! What is worth an event: one look at the cluster compared with the one before.
//!
//! Synchronous: never reads a clock, never asks anybody. Always: the first look of a writer says nothing, since what it finds
//! was told by the writer before; partitions are counted, not told one by one.

use std::collections::BTreeMap;

use dgfs_proto::ids::{ServerId, SessionId};
use dgfs_proto::map::Standing;
use dgfs_proto::meta::{ClassHealth, EventKind};

use crate::core::{Seen, ServerSeen, SessionSeen};

/// A follower of the change log that lacks more is behind …
const LAG_MAX: u64 = 10_000;
/// … or was silent for longer, …
const SILENT_MS_MAX: u64 = 30_000;
/// … until it lacks less than this and speaks.
const LAG_SMALL: u64 = 1_000;
/// Changes of the map are told once in this time: a repair makes many.
const MAP_TOLD_MS: u64 = 60_000;

/// What happened: kind, to whom, a sentence.
pub(crate) type Happened = (EventKind, String, String);

/// Remembers the last look.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    before: Option<Seen>,
    behind: BTreeMap<String, bool>,
    drained: BTreeMap<ServerId, bool>,
    map_told_ms: u64,
    map_told_epoch: u64,
}

impl Observer {
    /// The epoch whose redundancy is known.
    pub(crate) fn health_of(&self) -> Option<u64> {
        self.before.as_ref().map(|before| before.epoch)
    }

    /// Compares; `expired` are sessions that were fenced since the last look. `now_ms` never goes back.
    pub(crate) fn look(&mut self, now_ms: u64, mut seen: Seen, expired: &[SessionId]) -> Vec<Happened> {
        let Some(before) = self.before.take() else {
            self.begin(now_ms, &seen);
            self.before = Some(seen);
            return Vec::new();
        };
        let mut told = Vec::new();
        self.servers(&before, &seen, &mut told);
        match &seen.health {
            Some(health) => redundancy(before.health.as_deref().unwrap_or_default(), health, &mut told),
            None => seen.health.clone_from(&before.health),
        }
        sessions(&before, &seen, expired, &mut told);
        self.consumers(&before, &seen, &mut told);
        if seen.epoch != self.map_told_epoch && now_ms.saturating_sub(self.map_told_ms) >= MAP_TOLD_MS {
            let text = format!("the cluster map is at epoch {}, it was at {}", seen.epoch, self.map_told_epoch);
            told.push((EventKind::MapChanged, String::new(), text));
            (self.map_told_ms, self.map_told_epoch) = (now_ms, seen.epoch);
        }
        self.before = Some(seen);
        told
    }

    fn begin(&mut self, now_ms: u64, seen: &Seen) {
        (self.map_told_ms, self.map_told_epoch) = (now_ms, seen.epoch);
        self.drained = seen.servers.iter().map(|server| (server.id, server.empty)).collect();
        // Who is silent because this writer is new is not behind.
        self.behind = seen.consumers.iter().map(|one| (one.name.clone(), one.lag > LAG_MAX)).collect();
    }

    fn servers(&mut self, before: &Seen, seen: &Seen, told: &mut Vec<Happened>) {
        for server in &seen.servers {
            let name = named(server);
            let Some(was) = before.servers.iter().find(|was| was.id == server.id) else {
                told.push((EventKind::ServerJoined, name, "a storage server joined the cluster".to_owned()));
                continue;
            };
            if was.up != server.up {
                told.push(up_or_down(server, name.clone()));
            }
            told.extend(
                stands(was.standing, server.standing).map(|(kind, text)| (kind, name.clone(), text.to_owned())),
            );
            let drained = self.drained.entry(server.id).or_default();
            if server.empty && !std::mem::replace(drained, true) {
                let text = "it holds nothing any more: stop its daemon, then dgfs server remove it".to_owned();
                told.push((EventKind::ServerDrained, name.clone(), text));
            }
            if server.standing != Standing::Draining {
                *drained = false;
            }
            told.extend(damage(was, server, &name));
        }
        for gone in before.servers.iter().filter(|was| seen.servers.iter().all(|server| server.id != was.id)) {
            self.drained.remove(&gone.id);
            told.push((EventKind::ServerRemoved, named(gone), "the storage server was removed".to_owned()));
        }
    }

    fn consumers(&mut self, before: &Seen, seen: &Seen, told: &mut Vec<Happened>) {
        for one in &seen.consumers {
            if before.consumers.iter().all(|was| was.name != one.name) {
                told.push((EventKind::ConsumerAppeared, one.name.clone(), "it follows the change log".to_owned()));
            }
            let behind = self.behind.entry(one.name.clone()).or_default();
            if !*behind && (one.lag > LAG_MAX || one.silent_ms > SILENT_MS_MAX) {
                *behind = true;
                let text = format!("it lacks {} events and spoke {} s ago", one.lag, one.silent_ms / 1000);
                told.push((EventKind::ConsumerBehind, one.name.clone(), text));
            } else if *behind && one.lag < LAG_SMALL && one.silent_ms < SILENT_MS_MAX / 2 {
                *behind = false;
                told.push((EventKind::ConsumerCaughtUp, one.name.clone(), "it has caught up".to_owned()));
            }
        }
        self.behind.retain(|name, _| seen.consumers.iter().any(|one| one.name == *name));
        for gone in before.consumers.iter().filter(|was| seen.consumers.iter().all(|one| one.name != was.name)) {
            let text = "it was away for too long and is forgotten: it builds anew when it returns".to_owned();
            told.push((EventKind::ConsumerGone, gone.name.clone(), text));
        }
    }
}

/// A server for people: its number, and its name.
fn named(server: &ServerSeen) -> String {
    format!("{} {}", server.id, server.label)
}

fn up_or_down(server: &ServerSeen, name: String) -> Happened {
    if server.up {
        (EventKind::ServerUp, name, "it answers again".to_owned())
    } else {
        let text = format!("it was silent for {} s: writes go on without it", server.silent_ms / 1000);
        (EventKind::ServerDown, name, text)
    }
}

fn stands(was: Standing, is: Standing) -> Option<(EventKind, &'static str)> {
    match (was, is) {
        (Standing::Active, Standing::Active)
        | (Standing::Draining, Standing::Draining)
        | (Standing::Out, Standing::Out) => None,
        (_, Standing::Out) => Some((EventKind::ServerOut, "it was down for the grace time: others take its data over")),
        (_, Standing::Draining) => Some((EventKind::ServerDraining, "it gives everything away, as an operator asked")),
        (Standing::Draining, Standing::Active) => {
            Some((EventKind::ServerUndrained, "it takes part again, as an operator asked"))
        }
        (Standing::Out, Standing::Active) => Some((EventKind::ServerUp, "it came back and takes part again")),
    }
}

/// Counters of a daemon begin anew with it.
fn grown(was: u64, is: u64) -> u64 {
    if is >= was { is - was } else { is }
}

fn damage(was: &ServerSeen, server: &ServerSeen, name: &str) -> Vec<Happened> {
    let (found, healed) = (grown(was.damaged, server.damaged), grown(was.healed, server.healed));
    let mut told = Vec::new();
    if found > 0 {
        let text = format!("damaged data were met {found} times, by its scrub or by reads that it refused");
        told.push((EventKind::DamageFound, name.to_owned(), text));
    }
    if healed > 0 {
        let text = format!("{healed} damaged chunk versions were replaced by good copies");
        told.push((EventKind::DamageHealed, name.to_owned(), text));
    }
    told
}

/// How bad it is: unavailable, under the minimum, degraded partitions, the worst first.
fn badness(health: &ClassHealth) -> [u32; 3] {
    [health.unavailable, health.under_minimum, health.degraded]
}

fn redundancy(before: &[ClassHealth], now: &[ClassHealth], told: &mut Vec<Happened>) {
    for health in now {
        let was = before.iter().find(|was| was.class == health.class);
        let was = was.map_or([0; 3], badness);
        let is = badness(health);
        // A repair makes it better partition by partition: only steps to another kind of bad are told.
        let steps = |counts: [u32; 3]| counts.map(|count| count > 0);
        let kind = match steps(is).cmp(&steps(was)) {
            std::cmp::Ordering::Greater => EventKind::PartitionsWorse,
            std::cmp::Ordering::Less => EventKind::PartitionsBetter,
            std::cmp::Ordering::Equal => continue,
        };
        let text = format!(
            "{} partitions full, {} degraded, {} under the minimum (writes wait), {} unavailable",
            health.full, health.degraded, health.under_minimum, health.unavailable
        );
        told.push((kind, health.class.to_string(), text));
    }
    let left = |all: &[ClassHealth]| all.iter().map(|health| u64::from(health.places_left)).sum::<u64>();
    match (left(before), left(now)) {
        (0, left @ 1..) => {
            let text = format!("{left} places of partitions lack something");
            told.push((EventKind::RepairBegun, String::new(), text));
        }
        (1.., 0) => told.push((EventKind::RepairEnded, String::new(), "no partition lacks anything".to_owned())),
        (0, 0) | (1.., 1..) => {}
    }
}

fn sessions(before: &Seen, seen: &Seen, expired: &[SessionId], told: &mut Vec<Happened>) {
    let place = |session: &SessionSeen| format!("{} at {}", session.host, session.mount);
    for (id, session) in seen.sessions.iter().filter(|(id, _)| !before.sessions.contains_key(id)) {
        told.push((EventKind::SessionOpened, place(session), format!("session {id} began")));
    }
    for (id, session) in before.sessions.iter().filter(|(id, _)| !seen.sessions.contains_key(id)) {
        told.push(if expired.contains(id) {
            let text = format!("session {id} gave no sign of life and was fenced: mount again there");
            (EventKind::SessionExpired, place(session), text)
        } else {
            (EventKind::SessionEnded, place(session), format!("session {id} ended"))
        });
    }
}

#[cfg(test)]
mod tests;
