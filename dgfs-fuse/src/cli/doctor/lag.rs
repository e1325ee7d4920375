//! Who is behind: followers of the change log, index services, Neo4j, storage daemons that meta does not answer.
//!
//! Never calls an index late that is being built anew.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::gather::Gathered;

/// Seconds a follower of the log may be silent.
const SILENT_S: f64 = 60.0;
/// Events a follower may lack.
const EVENTS: f64 = 100_000.0;
/// Events an index, or Neo4j, may lack.
const INDEX_EVENTS: f64 = 50_000.0;
/// Seconds an index may be behind.
const INDEX_S: f64 = 30.0;
/// Seconds without an answer to a heartbeat: one is sent each second.
const META_S: f64 = 5.0;

/// Followers of the change log, by the active metadata service.
pub(super) fn consumers(seen: &Gathered) -> Vec<Finding> {
    let Some(numbers) = seen.active() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, silent) in numbers.by("dgfs_meta_consumer_silent_seconds", "consumer") {
        if silent > SILENT_S {
            let sentence = format!("{name} has not asked for changes for {silent:.0} s; the log grows until it does");
            found.push(Finding::warning(
                sentence,
                seen.start_part("index", name.split_once('@').map_or("", |(_, at)| at)),
            ));
        }
    }
    for (name, lag) in numbers.by("dgfs_meta_consumer_lag_events", "consumer") {
        if lag > EVENTS {
            found.push(Finding::warning(
                format!("{name} is {lag:.0} events behind"),
                seen.dgfs("logs --since 10m --level warn"),
            ));
        }
    }
    found
}

/// Index services and Neo4j.
pub(super) fn index(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for daemon in seen.daemons.iter().filter(|daemon| daemon.part == "index") {
        let Some(numbers) = daemon.numbers() else { continue };
        let (name, log) = (daemon.name(), seen.dgfs("logs --server index --since 10m --level warn"));
        let (lag, late) = (numbers.sum("dgfs_index_lag_events"), numbers.sum("dgfs_index_lag_seconds"));
        if numbers.sum("dgfs_index_building") == 0.0 && (lag > INDEX_EVENTS || late > INDEX_S) {
            let sentence = format!("{name} is {lag:.0} events and {late:.0} s behind: what it answers is old");
            found.push(Finding::warning(sentence, format!("{log}; {}", seen.restart(daemon))));
        }
        if numbers.has("dgfs_index_neo4j_up") && numbers.sum("dgfs_index_neo4j_up") == 0.0 {
            let sentence = format!("Neo4j does not answer {name}; it catches up when it is back");
            found.push(Finding::warning(sentence, daemon.there("systemctl restart neo4j")));
        } else if numbers.sum("dgfs_index_neo4j_lag_events") > INDEX_EVENTS {
            let sentence = format!("Neo4j is {:.0} changes behind {name}", numbers.sum("dgfs_index_neo4j_lag_events"));
            found.push(Finding::warning(sentence, log));
        }
    }
    found
}

/// Storage daemons that no metadata service answers.
pub(super) fn heartbeats(seen: &Gathered) -> Vec<Finding> {
    let stored = seen.daemons.iter().filter(|daemon| daemon.part == "stored");
    stored
        .filter_map(|daemon| {
            let silent = daemon.numbers()?.sum("dgfs_stored_meta_silent_seconds");
            (silent > META_S).then(|| {
                let sentence = format!("no metadata service has answered {} for {silent:.0} s", daemon.name());
                Finding::error(
                    sentence,
                    format!(
                        "{}; {}",
                        daemon.there("ping -c 3 META"),
                        seen.dgfs("logs --server meta --since 10m --level warn")
                    ),
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{consumers, heartbeats, index};
    use crate::cli::doctor::finding::Finding;
    use crate::cli::doctor::gather::testing::{daemon, gathered};

    fn with(part: &'static str, numbers: &str) -> Vec<Finding> {
        let seen = gathered(vec![daemon(part, numbers, |_| {})]);
        [consumers(&seen), index(&seen), heartbeats(&seen)].concat()
    }

    #[test]
    fn who_keeps_up_is_silent() {
        for (part, numbers) in [
            ("meta", "dgfs_meta_active 1\ndgfs_meta_consumer_silent_seconds{consumer=\"index@a:1\"} 2\n"),
            ("meta", "dgfs_meta_active 0\ndgfs_meta_consumer_silent_seconds{consumer=\"index@a:1\"} 900\n"),
            ("index", "dgfs_index_lag_events 3\ndgfs_index_neo4j_up 1\n"),
            ("index", "dgfs_index_lag_events 900000\ndgfs_index_lag_seconds 900\ndgfs_index_building 1\n"),
            ("stored", "dgfs_stored_meta_silent_seconds 1\n"),
        ] {
            assert_eq!(with(part, numbers), [], "{numbers}");
        }
    }

    #[test]
    fn who_is_behind_is_told() {
        for (part, numbers, words) in [
            (
                "meta",
                "dgfs_meta_active 1\ndgfs_meta_consumer_silent_seconds{consumer=\"index@a:1\"} 90\n",
                "not asked for changes",
            ),
            (
                "meta",
                "dgfs_meta_active 1\ndgfs_meta_consumer_lag_events{consumer=\"index@a:1\"} 200000\n",
                "events behind",
            ),
            ("index", "dgfs_index_lag_events 60000\n", "is old"),
            ("index", "dgfs_index_lag_seconds 31\n", "is old"),
            ("index", "dgfs_index_neo4j_up 0\n", "Neo4j does not answer"),
            ("index", "dgfs_index_neo4j_up 1\ndgfs_index_neo4j_lag_events 60000\n", "changes behind"),
            ("stored", "dgfs_stored_meta_silent_seconds 20\n", "no metadata service has answered"),
        ] {
            let found = with(part, numbers);
            assert_eq!(found.len(), 1, "{numbers}: {found:?}");
            assert!(found[0].sentence.contains(words) && found[0].command.is_some(), "{found:?}");
        }
    }
}
