//! Who answers, which program runs, and whether data and metadata have all that should be there.
//!
//! Never guesses about a daemon that does not answer: it is named, and no more is said of it.

use std::collections::BTreeMap;

use dgfs_proto::map::Standing;

use crate::cli::doctor::finding::{Finding, shell_word};
use crate::cli::doctor::gather::{Gathered, VERSION};
use crate::cli::doctor::local::{Process, let_go};

/// Files that a daemon needs to have open at least; the units allow 65,536.
const FILES_MIN: u64 = 1024;
/// A larger share of them is much.
const FILES_SHARE: f64 = 0.8;
/// A mount is silent after so long, as the alert has it; its session ends after 15 s.
const SILENT_MS: u64 = 6000;

/// Daemons that do not answer.
pub(super) fn answers(seen: &Gathered) -> Vec<Finding> {
    let silent = seen.daemons.iter().filter_map(|daemon| {
        let fault = daemon.told.as_ref().err()?;
        let state = daemon.process.as_ref().map(Process::state).unwrap_or_default();
        Some(Finding::error(format!("{fault}{state}"), seen.start(daemon)))
    });
    silent.collect()
}

/// What the cluster did not tell of itself: what is wrong above is mostly why.
pub(super) fn untold(seen: &Gathered) -> Vec<Finding> {
    seen.faults.iter().map(|fault| Finding::error(fault, seen.dgfs("status"))).collect()
}

/// Is a metadata service active, and one ready to replace it?
pub(super) fn metadata(seen: &Gathered) -> Vec<Finding> {
    let metas: Vec<_> = seen.daemons.iter().filter(|daemon| daemon.part == "meta").collect();
    let Some(first) = metas.first() else { return Vec::new() };
    let number = |name: &str| {
        metas.iter().filter_map(|meta| meta.numbers()).map(|numbers| numbers.sum(name)).fold(0.0, f64::max)
    };
    if number("dgfs_meta_active") == 0.0 {
        let dead = metas.iter().find(|meta| meta.told.is_err()).unwrap_or(first);
        return vec![Finding::error(
            "no metadata service is active: nothing can be opened or changed",
            seen.start(dead),
        )];
    }
    let active = metas.iter().find_map(|meta| meta.numbers().filter(|numbers| numbers.sum("dgfs_meta_active") > 0.0));
    let lonely =
        active.is_some_and(|numbers| numbers.has("dgfs_meta_redis_up") && numbers.sum("dgfs_meta_standbys") == 0.0);
    if lonely {
        let dead = metas.iter().find(|meta| meta.told.is_err());
        let sentence = "no standby metadata service: if the active one ends, everything waits until it is back";
        let start =
            dead.map_or_else(|| "on another machine: dgfs meta --config meta.toml".to_owned(), |dead| seen.start(dead));
        return vec![Finding::warning(sentence, start)];
    }
    Vec::new()
}

/// Versions of daemons and mounts against this program's.
pub(super) fn versions(seen: &Gathered) -> Vec<Finding> {
    let differs = |version: &&str| *version != VERSION;
    let mut found = Vec::new();
    for daemon in &seen.daemons {
        let Ok(told) = &daemon.told else { continue };
        if let Some(version) = Some(told.facts.version.as_str()).filter(differs) {
            let sentence = format!("{} runs version {version}, this program is {VERSION}", daemon.name());
            found.push(Finding::warning(
                sentence,
                format!("install the same version there, then {}", seen.restart(daemon)),
            ));
        }
    }
    for session in &seen.sessions {
        let client = &session.client;
        if let Some(version) = Some(client.version.as_str()).filter(differs) {
            let sentence = format!(
                "the mount at {} of {} runs version {version}, this program is {VERSION}",
                client.mount_point, client.host
            );
            found.push(Finding::warning(sentence, remount(&client.host, &client.mount_point)));
        }
    }
    for mount in &seen.mounts {
        if let Some(version) = mount.version.as_deref().filter(differs) {
            let sentence = format!("the mount at {} runs version {version}, this program is {VERSION}", mount.path);
            found.push(Finding::warning(sentence, remount("this machine", &mount.path)));
        }
    }
    found
}

fn remount(host: &str, point: &str) -> String {
    format!("on {}: dgfs umount {}, then mount again", shell_word(host), shell_word(point))
}

/// Open files of daemons.
pub(super) fn limits(seen: &Gathered) -> Vec<Finding> {
    let told = seen.daemons.iter().filter_map(|daemon| Some((daemon, &daemon.told.as_ref().ok()?.facts)));
    told.filter_map(|(daemon, facts)| {
        let (open, most) = (facts.descriptors, facts.descriptors_max);
        let raise = || {
            daemon.there(&format!(
                "prlimit --pid {} --nofile=65536:65536  # for good: LimitNOFILE=65536 in its unit",
                facts.pid
            ))
        };
        if most > 0 && open as f64 > most as f64 * FILES_SHARE {
            Some(Finding::error(format!("{} has {open} files open of {most} that it may have", daemon.name()), raise()))
        } else if most > 0 && most < FILES_MIN {
            Some(Finding::warning(format!("{} may have only {most} files open", daemon.name()), raise()))
        } else {
            None
        }
    })
    .collect()
}

/// Storage servers as the active metadata service sees them.
pub(super) fn servers(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for server in &seen.servers {
        let (info, silent_s) = (&server.info, server.idle_ms / 1000);
        let name =
            format!("storage server {} ({})", info.id, if info.label.is_empty() { &info.address } else { &info.label });
        let host = if info.labels.host.is_empty() { &info.address } else { &info.labels.host };
        let daemon = seen.daemons.iter().find(|daemon| daemon.number == Some(info.id.0));
        let start = daemon.map_or_else(|| seen.start_part("stored", host), |daemon| seen.start(daemon));
        match (info.up, info.standing) {
            (false, Standing::Out) => found.push(Finding::warning(
                format!("{name} was given up: its data are rebuilt on others"),
                format!(
                    "{start}; when it does not come back: {}",
                    seen.dgfs(&format!("server remove {} --force", info.id))
                ),
            )),
            (false, Standing::Active | Standing::Draining) => {
                found.push(Finding::error(format!("{name} is down, and was heard last {silent_s} s ago"), start));
            }
            (true, Standing::Active | Standing::Draining | Standing::Out) => {}
        }
    }
    found
}

/// Partitions that lack copies.
pub(super) fn partitions(seen: &Gathered) -> Vec<Finding> {
    let is_down = seen.servers.iter().any(|server| !server.info.up);
    let mend = if is_down {
        format!("start the servers that are down (above): {}", seen.dgfs("server ls"))
    } else {
        format!("the repair works on it: {}", seen.dgfs("status"))
    };
    let mut found = Vec::new();
    for health in &seen.health {
        let class = health.class;
        for (count, what) in [
            (health.unavailable, "can not be read: nobody who has everything answers"),
            (health.under_minimum, "take no writes: too few of their servers answer"),
        ] {
            if count > 0 {
                found.push(Finding::error(format!("{count} partitions of class {class} {what}"), &mend));
            }
        }
        if health.degraded > 0 {
            let sentence =
                format!("{} partitions of class {class} lack copies ({} places)", health.degraded, health.places_left);
            found.push(Finding::warning(sentence, &mend));
        }
    }
    found
}

/// Mounts that give no sign of life.
pub(super) fn sessions(seen: &Gathered) -> Vec<Finding> {
    let silent = seen.sessions.iter().filter(|session| session.idle_ms > SILENT_MS).map(|session| {
        let client = &session.client;
        let sentence = format!(
            "the mount at {} of {} (process {}) has been silent for {} s: what it has cached or locked makes others wait until 15 s",
            client.mount_point, client.host, client.pid, session.idle_ms / 1000
        );
        let look = format!("on {}: {}", shell_word(&client.host), let_go(&client.mount_point, Some(client.pid)));
        Finding::warning(sentence, look)
    });
    let mut found: Vec<Finding> = silent.collect();
    let locks = seen.active().map_or(0.0, |numbers| numbers.sum("dgfs_meta_dead_session_locks"));
    if locks > 0.0 {
        found.push(Finding::warning(
            format!("{locks:.0} files are locked by mounts that are silent"),
            seen.dgfs("status"),
        ));
    }
    found
}

/// Pairs of which one called the other in vain, within the last minute, although it answers this program: a link is cut, or
/// one of them has just begun.
pub(super) fn links(seen: &Gathered) -> Vec<Finding> {
    let answering: BTreeMap<&str, String> = seen
        .daemons
        .iter()
        .filter(|daemon| daemon.told.is_ok())
        .map(|daemon| (daemon.address.as_str(), daemon.name()))
        .collect();
    let mut found = Vec::new();
    for daemon in &seen.daemons {
        let Some(numbers) = daemon.numbers() else { continue };
        for (peer, up) in numbers.by("dgfs_peer_up", "peer") {
            if let Some(name) = answering.get(peer.as_str()).filter(|_| up == 0.0) {
                let sentence =
                    format!("{}, when it last tried, did not reach {name}, which answers this machine", daemon.name());
                let host = peer.rsplit_once(':').map_or(peer.as_str(), |(host, _)| host);
                found.push(Finding::warning(
                    sentence,
                    daemon.there(&format!("ping -c 3 {}; nft list ruleset", shell_word(host))),
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
