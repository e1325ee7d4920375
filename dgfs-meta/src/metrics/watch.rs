//! The cluster as the metadata service sees it: servers, mounts, followers, processes, events.
//!
//! Never counts itself. Always bounded: a series for each storage server and each follower of the log, and
//! [`SESSIONS_SHOWN`] mounts.

use std::cmp::Reverse;
use std::sync::Arc;

use dgfs_proto::ids::SessionId;
use dgfs_proto::meta::ProcessKind;
use dgfs_runtime::metrics::MetricSet;
use dgfs_runtime::metrics::computed::{Family, Samples};

use crate::core::{Seen, ServerSeen, SessionSeen};
use crate::metrics::{counter, gauge};
use crate::service::{MetaService, is_out};

/// Mounts whose calls are shown: the busiest.
const SESSIONS_SHOWN: usize = 20;
/// Whoever holds a lock and was silent for longer may be dead.
const DEAD_MS: u64 = 5_000;

const SERVER_UP: Family = gauge("dgfs_meta_server_up", "1 when a storage server is up", &["server", "label"]);
const SERVER_SILENT: Family =
    gauge("dgfs_meta_server_silent_seconds", "Time since a storage server's last heartbeat", &["server"]);
const SERVER_OUT: Family = gauge("dgfs_meta_server_out", "1 when a storage server was given up", &["server"]);
const SERVER_CAPACITY: Family =
    gauge("dgfs_meta_server_capacity_bytes", "Bytes of the file system a storage server lies on", &["server"]);
const SERVER_FREE: Family = gauge("dgfs_meta_server_free_bytes", "Bytes a storage server can still take", &["server"]);
const LOG_EVENTS: Family = gauge("dgfs_meta_log_events", "Events kept in the change log", &[]);
const CONSUMER_LAG: Family = gauge(
    "dgfs_meta_consumer_lag_events",
    "Events of the change log that a follower has not carried out",
    &["consumer"],
);
const CONSUMER_SILENT: Family =
    gauge("dgfs_meta_consumer_silent_seconds", "Time since a follower of the change log last asked", &["consumer"]);
const SESSION_CALLS: Family = counter(
    "dgfs_meta_session_calls_total",
    "Calls of a mount since this writer became active; the 20 busiest mounts",
    &["session", "host", "mount"],
);
const SESSION_SILENT: Family =
    gauge("dgfs_meta_session_silent_seconds_max", "Time since the most silent mount last spoke", &[]);
const DEAD_LOCKS: Family =
    gauge("dgfs_meta_dead_session_locks", "Inodes locked by mounts that were silent for more than 5 seconds", &[]);
const LOCK_WAIT: Family = gauge("dgfs_meta_lock_wait_seconds_max", "How long the oldest request waits for a lock", &[]);
const MEMBERS: Family =
    gauge("dgfs_meta_members", "Processes of the cluster that announced themselves, by kind", &["kind"]);
const EVENTS: Family = counter("dgfs_meta_events_total", "Events of the cluster since the process started", &["kind"]);
const STANDBYS: Family = gauge("dgfs_meta_standbys", "Standby metadata services heard of within 4 seconds", &[]);
const ENGINE_ERRORS: Family =
    counter("dgfs_meta_engine_errors_total", "Calls that the metadata engine did not carry out", &[]);

static FAMILIES: [Family; 16] = [
    SERVER_UP,
    SERVER_SILENT,
    SERVER_OUT,
    SERVER_CAPACITY,
    SERVER_FREE,
    LOG_EVENTS,
    CONSUMER_LAG,
    CONSUMER_SILENT,
    SESSION_CALLS,
    SESSION_SILENT,
    DEAD_LOCKS,
    LOCK_WAIT,
    MEMBERS,
    EVENTS,
    STANDBYS,
    ENGINE_ERRORS,
];

/// Registers them, as of the last look of the active writer, for as long as the service lives.
pub(super) fn register(set: &MetricSet, service: &Arc<MetaService>) {
    let service = Arc::downgrade(service);
    set.computed(&FAMILIES, move |samples| {
        if let Some(service) = service.upgrade() {
            show(samples, &service);
        }
    });
}

fn show(samples: &mut Samples, service: &MetaService) {
    let watch = service.watched();
    samples.add(ENGINE_ERRORS.name, &[], watch.numbers.engine_errors() as f64);
    for (kind, count) in watch.journal.counts() {
        samples.add(EVENTS.name, &[kind.name()], count as f64);
    }
    // A standby knows of nobody, and shows no server twice.
    if !service.is_active() {
        return;
    }
    let processes = service.processes();
    for kind in ProcessKind::ALL {
        let count = processes.iter().filter(|one| one.who.kind == kind).count();
        samples.add(MEMBERS.name, &[kind.name()], count as f64);
    }
    samples.add(STANDBYS.name, &[], watch.standbys() as f64);
    let Some(seen) = watch.seen() else { return };
    seen.servers.iter().for_each(|server| show_server(samples, server));
    samples.add(LOG_EVENTS.name, &[], seen.log_events as f64);
    for one in &seen.consumers {
        samples.add(CONSUMER_LAG.name, &[one.name.as_str()], one.lag as f64);
        samples.add(CONSUMER_SILENT.name, &[one.name.as_str()], seconds(one.silent_ms));
    }
    show_sessions(samples, &seen);
    samples.add(LOCK_WAIT.name, &[], seconds(seen.oldest_lock_wait_ms));
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1e3
}

fn show_server(samples: &mut Samples, server: &ServerSeen) {
    let id = server.id.to_string();
    let by_id = [id.as_str()];
    samples.add(SERVER_UP.name, &[id.as_str(), server.label.as_str()], f64::from(u8::from(server.up)));
    samples.add(SERVER_SILENT.name, &by_id, seconds(server.silent_ms));
    samples.add(SERVER_OUT.name, &by_id, f64::from(u8::from(is_out(server.standing))));
    samples.add(SERVER_CAPACITY.name, &by_id, server.capacity_bytes as f64);
    samples.add(SERVER_FREE.name, &by_id, server.free_bytes as f64);
}

fn show_sessions(samples: &mut Samples, seen: &Seen) {
    for ([session, host, mount], calls) in busiest(seen) {
        samples.add(SESSION_CALLS.name, &[session.as_str(), host.as_str(), mount.as_str()], calls as f64);
    }
    let silent = seen.sessions.values().map(|session| session.silent_ms).max().unwrap_or(0);
    samples.add(SESSION_SILENT.name, &[], seconds(silent));
    let dead = seen.sessions.values().filter(|session| session.silent_ms > DEAD_MS);
    samples.add(DEAD_LOCKS.name, &[], dead.map(|session| session.locked).sum::<u64>() as f64);
}

/// The mounts that call most, by their labels.
fn busiest(seen: &Seen) -> Vec<([String; 3], u64)> {
    let mut all: Vec<_> = seen.sessions.iter().collect();
    all.sort_by_key(|(id, session)| (Reverse(session.calls), **id));
    let row = |(id, session): (&SessionId, &SessionSeen)| {
        ([id.to_string(), session.host.clone(), session.mount.clone()], session.calls)
    };
    all.into_iter().take(SESSIONS_SHOWN).map(row).collect()
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::SessionId;

    use super::{SESSIONS_SHOWN, busiest};
    use crate::core::{Seen, SessionSeen};

    #[test]
    fn only_the_busiest_mounts_have_a_series() {
        let session = |calls| SessionSeen { host: "h".into(), mount: "/m".into(), calls, silent_ms: 0, locked: 0 };
        let sessions = (1..=4096).filter_map(|id| Some((SessionId::new(id)?, session(id)))).collect();
        let shown = busiest(&Seen { sessions, ..Seen::default() });
        assert_eq!(shown.len(), SESSIONS_SHOWN);
        assert_eq!(shown.first().unwrap(), &(["4096", "h", "/m"].map(str::to_owned), 4096));
    }
}
