//! Redis: is it there, and do its settings keep what was answered?
//!
//! Never asks it: the metadata services look every three seconds, and tell.

use crate::cli::doctor::finding::{Finding, shell_word};
use crate::cli::doctor::gather::{DaemonSeen, Gathered};
use crate::cli::numbers::{Numbers, bytes_text};

/// A larger share of its memory is high.
const MEMORY_SHARE: f64 = 0.9;
/// A replica may lack so many bytes.
const LAG_BYTES: f64 = 8.0 * 1024.0 * 1024.0;

/// What the active metadata service (or, without one, any that tells) knows of it.
pub(super) fn settings(seen: &Gathered) -> Vec<Finding> {
    let Some((daemon, numbers)) = told(seen) else { return Vec::new() };
    let cli = client(daemon);
    if numbers.sum("dgfs_meta_redis_up") == 0.0 {
        let start = daemon.there("systemctl start redis-server");
        return vec![Finding::error(
            format!("Redis does not answer {}", daemon.name()),
            format!("{start}; {cli} PING"),
        )];
    }
    let mut found = durable(daemon, numbers, &cli);
    let is_0 = |name: &str| numbers.has(name) && numbers.sum(name) == 0.0;
    if is_0("dgfs_meta_redis_aof_last_write_ok") {
        let sentence = "the last write of Redis to its log failed: its disk is full or broken";
        found.push(Finding::error(sentence, format!("{cli} INFO persistence; df -h")));
    }
    if is_0("dgfs_meta_redis_rdb_last_save_ok") {
        found
            .push(Finding::error("the last snapshot of Redis failed", format!("{cli} INFO persistence; {cli} BGSAVE")));
    }
    if is_0("dgfs_meta_redis_primary") {
        let sentence = "the Redis of the metadata services is a replica, and takes no changes";
        found.push(Finding::error(
            sentence,
            format!("{cli} REPLICAOF NO ONE  # or give the primary's address in meta.toml"),
        ));
    }
    let evicted = numbers.sum("dgfs_meta_redis_evicted_keys_total");
    if evicted > 0.0 {
        let sentence = format!("Redis threw {evicted:.0} rows away for want of memory: metadata are lost");
        found.push(Finding::error(
            sentence,
            format!("{cli} CONFIG SET maxmemory-policy noeviction && {cli} CONFIG REWRITE; {}", seen.fsck()),
        ));
    }
    let (used, max) =
        (numbers.sum("dgfs_meta_redis_used_memory_bytes"), numbers.sum("dgfs_meta_redis_max_memory_bytes"));
    if max > 0.0 && used / max > MEMORY_SHARE {
        let sentence = format!("Redis uses {} of {} of memory", bytes_text(used), bytes_text(max));
        found.push(Finding::warning(
            sentence,
            format!("{cli} CONFIG SET maxmemory {:.0} && {cli} CONFIG REWRITE", max * 2.0),
        ));
    }
    let lag = numbers.sum("dgfs_meta_redis_replica_lag_bytes");
    if lag > LAG_BYTES {
        let sentence = format!("a replica of Redis lacks {}", bytes_text(lag));
        found.push(Finding::warning(sentence, format!("{cli} INFO replication")));
    }
    found
}

fn told(seen: &Gathered) -> Option<(&DaemonSeen, &Numbers)> {
    let all = || seen.daemons.iter().filter_map(|daemon| Some((daemon, daemon.numbers()?)));
    let tells = |numbers: &Numbers| numbers.has("dgfs_meta_redis_up");
    let active = all().find(|(_, numbers)| tells(numbers) && numbers.sum("dgfs_meta_active") > 0.0);
    active.or_else(|| all().find(|(_, numbers)| tells(numbers)))
}

/// `redis-cli` to the server that a metadata service names (it leaves user and password out).
fn client(daemon: &DaemonSeen) -> String {
    match daemon.config("engine.redis.url") {
        Some(url) if url.starts_with("unix:") => {
            format!("redis-cli -s {}", shell_word(url.trim_start_matches("unix:").trim_start_matches("//")))
        }
        Some(url) => format!("redis-cli -u {}", shell_word(url)),
        None => "redis-cli".to_owned(),
    }
}

fn durable(daemon: &DaemonSeen, numbers: &Numbers, cli: &str) -> Vec<Finding> {
    if !numbers.has("dgfs_meta_redis_durable") || numbers.sum("dgfs_meta_redis_durable") > 0.0 {
        return Vec::new();
    }
    let level = daemon.config("engine.redis.durability").unwrap_or("always");
    let wanted = level.strip_prefix("replicas=").and_then(|count| count.parse::<f64>().ok());
    let there = numbers.sum("dgfs_meta_redis_replicas");
    let kept = |sentence: &str, setting: &str| {
        let sentence = format!("{sentence}: what is answered from now on may be lost with Redis");
        Finding::error(sentence, format!("{cli} CONFIG SET {setting} && {cli} CONFIG REWRITE"))
    };
    let sync = if level == "always" { "always" } else { "everysec" };
    if numbers.has("dgfs_meta_redis_aof_enabled") && numbers.sum("dgfs_meta_redis_aof_enabled") == 0.0 {
        return vec![kept("Redis keeps no log (appendonly no)", "appendonly yes")];
    }
    if let Some(wanted) = wanted.filter(|wanted| there < *wanted) {
        let sentence = format!("Redis has {there:.0} of the {wanted:.0} replicas of durability level {level}");
        return vec![Finding::error(
            sentence,
            format!("start its replicas: redis-cli -h REPLICA REPLICAOF HOST PORT; {cli} INFO replication"),
        )];
    }
    vec![kept(
        &format!("Redis does not fit the durability level {level} (appendfsync, or maxmemory-policy)"),
        &format!("appendfsync {sync} maxmemory-policy noeviction"),
    )]
}

#[cfg(test)]
mod tests {
    use super::settings;
    use crate::cli::doctor::finding::{Finding, Severity};
    use crate::cli::doctor::gather::testing::{daemon, gathered};

    const UP: &str = "dgfs_meta_redis_up 1\ndgfs_meta_redis_durable 1\ndgfs_meta_redis_aof_enabled 1\n\
        dgfs_meta_redis_primary 1\ndgfs_meta_redis_aof_last_write_ok 1\ndgfs_meta_redis_rdb_last_save_ok 1\n";

    fn with(numbers: &str, durability: &str) -> Vec<Finding> {
        let config = [("engine.redis.url", "redis://r:6379/0"), ("engine.redis.durability", durability)];
        settings(&gathered(vec![daemon("meta", numbers, |facts| {
            facts.config.extend(config.map(|(key, value)| (key.to_owned(), value.to_owned())));
        })]))
    }

    #[test]
    fn a_sound_redis_and_an_embedded_engine_are_silent() {
        assert_eq!(with(UP, "always"), []);
        assert_eq!(with("dgfs_meta_active 1\n", "always"), []);
    }

    #[test]
    fn each_fault_is_told_with_what_mends_it() {
        let off = UP.replace("durable 1", "durable 0").replace("aof_enabled 1", "aof_enabled 0");
        for (numbers, level, sentence, command) in [
            ("dgfs_meta_redis_up 0\n", "always", "does not answer", "redis-cli -u redis://r:6379/0 PING"),
            (&off, "always", "appendonly no", "CONFIG SET appendonly yes && redis-cli"),
            (
                &UP.replace("durable 1", "durable 0"),
                "always",
                "does not fit",
                "appendfsync always maxmemory-policy noeviction",
            ),
            (&UP.replace("durable 1", "durable 0"), "everysec", "does not fit", "appendfsync everysec"),
            (&UP.replace("durable 1", "durable 0"), "replicas=2", "0 of the 2 replicas", "REPLICAOF"),
            (&UP.replace("last_write_ok 1", "last_write_ok 0"), "always", "its log failed", "INFO persistence"),
            (&UP.replace("last_save_ok 1", "last_save_ok 0"), "always", "snapshot", "BGSAVE"),
            (&UP.replace("primary 1", "primary 0"), "always", "is a replica", "REPLICAOF NO ONE"),
            (&format!("{UP}dgfs_meta_redis_evicted_keys_total 5\n"), "always", "threw 5 rows", "noeviction"),
        ] {
            let found = with(numbers, level);
            assert_eq!(found.len(), 1, "{numbers}: {found:?}");
            let told = found[0].command.as_deref().unwrap();
            assert!(found[0].sentence.contains(sentence) && told.contains(command), "{found:?}");
            assert_eq!(found[0].severity, Severity::Error);
        }
    }

    #[test]
    fn much_memory_and_a_replica_far_behind_are_warnings() {
        for more in [
            "dgfs_meta_redis_used_memory_bytes 95\ndgfs_meta_redis_max_memory_bytes 100\n",
            "dgfs_meta_redis_replica_lag_bytes 9000000\n",
        ] {
            let found = with(&format!("{UP}{more}"), "always");
            assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Warning], "{found:?}");
        }
    }
}
