//! Disks of storage daemons (and of embedded mounts), and those that metadata and index lie on.
//!
//! Never judges by what is normal on one machine: limits are the alerts'.

use crate::cli::doctor::finding::{Finding, shell_word};
use crate::cli::doctor::gather::{DaemonSeen, Gathered};
use crate::cli::numbers::{Numbers, bytes_text};

/// A scrub is overdue after so many of its periods.
const SCRUB_PERIODS: f64 = 2.0;
/// The period where a daemon does not tell it, seconds.
const SCRUB_PERIOD_S: f64 = 604_800.0;
/// A mean sync longer than this is slow, seconds.
const SYNC_S: f64 = 0.5;
/// A sync under way for longer hangs, seconds.
const HANGS_S: f64 = 5.0;
/// Below this share free, a disk is nearly full.
const FREE_SHARE: f64 = 0.1;
/// The same for disks that grow little: those of metadata and index.
const FREE_SHARE_SMALL: f64 = 0.05;

/// A store, and where commands about it are to be given.
struct Store<'a> {
    name: String,
    numbers: &'a Numbers,
    daemon: Option<&'a DaemonSeen>,
}

impl Store<'_> {
    /// Where it lies, as a word of a command.
    fn directory(&self) -> String {
        let facts = self.daemon.and_then(|daemon| daemon.told.as_ref().ok()).map(|told| &told.facts);
        facts.and_then(|facts| facts.directory.as_ref()).map_or_else(|| "DIR".to_owned(), |one| shell_word(&one.path))
    }

    fn there(&self, command: &str) -> String {
        self.daemon.map_or_else(|| command.to_owned(), |daemon| daemon.there(command))
    }
}

fn stores(seen: &Gathered) -> Vec<Store<'_>> {
    let of_daemon = |daemon: &'_ DaemonSeen| daemon.part == "stored";
    let daemons = seen
        .daemons
        .iter()
        .filter(|daemon| of_daemon(daemon))
        .filter_map(|daemon| Some(Store { name: daemon.name(), numbers: daemon.numbers()?, daemon: Some(daemon) }));
    let mounts = seen.mounts.iter().filter_map(|mount| {
        let numbers = mount.numbers.as_ref().filter(|numbers| numbers.has("dgfs_stored_capacity_bytes"))?;
        Some(Store { name: format!("the store of {}", mount.path), numbers, daemon: None })
    });
    daemons.chain(mounts).collect()
}

/// Disks that refuse, hang or are slow.
pub(super) fn health(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for store in stores(seen) {
        let (numbers, name) = (store.numbers, &store.name);
        let log = seen.dgfs("logs --since 1h --level warn");
        if numbers.sum("dgfs_stored_disk_read_only") > 0.0 {
            let sentence = format!("the disk of {name} refuses writes");
            found.push(Finding::error(
                sentence,
                store.there(&format!("dmesg -T | tail -50; findmnt -no SOURCE,OPTIONS --target {}", store.directory())),
            ));
        }
        if numbers.sum("dgfs_stored_restart_needed") > 0.0 {
            let restart =
                store.daemon.map_or_else(|| "dgfs umount, then mount again".to_owned(), |one| seen.restart(one));
            found.push(Finding::error(
                format!("{name} takes nothing until it is restarted: a sync or its index failed"),
                restart,
            ));
        }
        let waiting = numbers.sum("dgfs_stored_disk_waiting_seconds");
        if waiting > HANGS_S {
            let sentence = format!("the disk of {name} hangs: a sync has been waited for for {waiting:.0} s");
            found.push(Finding::error(sentence, store.there("dmesg -T | tail -50; iostat -x 1 3")));
        }
        let errors: Vec<String> = numbers
            .by("dgfs_stored_disk_errors_total", "kind")
            .into_iter()
            .filter(|(kind, count)| kind != "full" && *count > 0.0)
            .map(|(kind, count)| format!("{count:.0} {kind}s"))
            .collect();
        if !errors.is_empty() {
            let sentence = format!("the disk of {name} failed since the daemon's start: {}", errors.join(", "));
            found.push(Finding::error(
                sentence,
                format!("{}; {log}", store.there("dmesg -T | tail -50; smartctl -a DEVICE")),
            ));
        }
        let (sum, count) = (numbers.sum("dgfs_stored_sync_seconds_sum"), numbers.sum("dgfs_stored_sync_seconds_count"));
        if count > 0.0 && sum / count > SYNC_S {
            let sentence = format!("syncs of {name} take {:.2} s on average since its start", sum / count);
            found.push(Finding::warning(sentence, store.there("iostat -x 1 3; smartctl -a DEVICE")));
        }
    }
    found.extend(seen.daemons.iter().filter_map(|daemon| {
        let directory = daemon.told.as_ref().ok()?.facts.directory.as_ref().filter(|directory| directory.read_only)?;
        let sentence = format!("{} of {} is mounted read-only", directory.path, daemon.name());
        let remount = format!("dmesg -T | tail -50; mount -o remount,rw {}", shell_word(&directory.path));
        Some(Finding::error(sentence, daemon.there(&remount)))
    }));
    found
}

/// Disks that are full, or nearly.
pub(super) fn space(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for store in stores(seen) {
        let numbers = store.numbers;
        let (free, capacity) = (numbers.sum("dgfs_stored_free_bytes"), numbers.sum("dgfs_stored_capacity_bytes"));
        let number = store.daemon.and_then(|daemon| daemon.number);
        let room = match number {
            Some(number) => {
                format!("make room on its disk, or move data off it: {}", seen.dgfs(&format!("server drain {number}")))
            }
            None => "make room on its disk: df -h".to_owned(),
        };
        if capacity > 0.0 && free <= 0.0 {
            found.push(Finding::error(format!("{} is full", store.name), room));
        } else if capacity > 0.0 && free / capacity < FREE_SHARE {
            let sentence =
                format!("{} is nearly full: {} of {} are free", store.name, bytes_text(free), bytes_text(capacity));
            found.push(Finding::warning(sentence, room));
        }
    }
    found.extend(seen.daemons.iter().filter(|daemon| daemon.part != "stored").filter_map(|daemon| {
        let directory = daemon.told.as_ref().ok()?.facts.directory.as_ref()?;
        let (free, capacity) = (directory.free_bytes as f64, directory.capacity_bytes as f64);
        let is_short = capacity > 0.0 && free / capacity < FREE_SHARE_SMALL;
        is_short.then(|| {
            let sentence = format!(
                "the disk of {} is nearly full: {} of {} are free",
                daemon.name(),
                bytes_text(free),
                bytes_text(capacity)
            );
            Finding::warning(sentence, daemon.there(&format!("df -h {}", shell_word(&directory.path))))
        })
    }));
    found
}

/// What scrub, reads and repair found of the data themselves.
pub(super) fn data(seen: &Gathered) -> Vec<Finding> {
    let mut found = Vec::new();
    for store in stores(seen) {
        let (numbers, name) = (store.numbers, &store.name);
        let check = seen.fsck();
        let damaged = numbers.sum("dgfs_stored_scrub_errors_total") + numbers.sum("dgfs_stored_damaged_reads_total");
        if damaged > 0.0 {
            let healed = numbers.sum("dgfs_stored_healed_versions_total");
            let sentence = format!(
                "{name} found damage {damaged:.0} times since its start, and healed {healed:.0} versions: mistrust its disk"
            );
            found.push(Finding::error(sentence, format!("{check}; {}", store.there("smartctl -a DEVICE"))));
        }
        let lost = numbers.sum("dgfs_stored_lost_versions") + numbers.sum("dgfs_stored_repair_lost_total");
        if lost > 0.0 {
            found.push(Finding::error(format!("{name} lacks {lost:.0} versions that it should have"), check));
        }
        found.extend(overdue(seen, &store));
    }
    found
}

fn overdue(seen: &Gathered, store: &Store<'_>) -> Option<Finding> {
    // A mount that is there for a short while scrubs in its own time.
    let daemon = store.daemon?;
    let facts = &daemon.told.as_ref().ok()?.facts;
    let told =
        facts.config.iter().find(|(key, _)| key == "scrub_period_s").and_then(|(_, value)| value.parse::<f64>().ok());
    let period = told.filter(|period| *period > 0.0).unwrap_or(SCRUB_PERIOD_S);
    if !store.numbers.has("dgfs_stored_scrubbed_timestamp_seconds") {
        return None;
    }
    let ended = store.numbers.sum("dgfs_stored_scrubbed_timestamp_seconds");
    let since = if ended > 0.0 { ended } else { facts.started_us as f64 / 1e6 };
    let days = (seen.now_us as f64 / 1e6 - since) / 86_400.0;
    // A second's period (of a test) must not be missed by a moment.
    (days * 86_400.0 > (SCRUB_PERIODS * period).max(86_400.0)).then(|| {
        let sentence = format!("{} has not been read and checked whole for {days:.0} days", store.name);
        Finding::warning(sentence, format!("{}; a shorter scrub_period_s in its file reads faster", seen.fsck()))
    })
}

#[cfg(test)]
mod tests {
    use super::{data, health, space};
    use crate::cli::doctor::finding::{Finding, Severity};
    use crate::cli::doctor::gather::Gathered;
    use crate::cli::doctor::gather::testing::{NOW_US, daemon, gathered, mount};

    const HEALTHY: &str = "dgfs_stored_disk_read_only 0\ndgfs_stored_capacity_bytes 1000\ndgfs_stored_free_bytes 500\n\
        dgfs_stored_sync_seconds_sum 1\ndgfs_stored_sync_seconds_count 100\ndgfs_stored_scrubbed_timestamp_seconds 0\n\
        dgfs_stored_disk_errors_total{kind=\"full\"} 3\n";

    fn with(numbers: &str) -> Gathered {
        gathered(vec![daemon("stored", numbers, |_| {})])
    }

    fn all(seen: &Gathered) -> Vec<Finding> {
        [health(seen), space(seen), data(seen)].concat()
    }

    #[test]
    fn a_healthy_disk_is_silent() {
        assert_eq!(all(&with(HEALTHY)), []);
        assert_eq!(all(&gathered(Vec::new())), []);
    }

    #[test]
    fn every_fault_of_a_disk_is_an_error_with_a_command() {
        for (numbers, words) in [
            ("dgfs_stored_disk_read_only 1\n", "refuses writes"),
            ("dgfs_stored_restart_needed 1\n", "until it is restarted"),
            ("dgfs_stored_disk_waiting_seconds 31\n", "hangs"),
            ("dgfs_stored_disk_errors_total{kind=\"write\"} 2\n", "2 writes"),
            ("dgfs_stored_capacity_bytes 1000\ndgfs_stored_free_bytes 0\n", "is full"),
            ("dgfs_stored_scrub_errors_total 1\n", "found damage"),
            ("dgfs_stored_damaged_reads_total 1\n", "found damage"),
            ("dgfs_stored_lost_versions 4\n", "lacks 4 versions"),
        ] {
            let found = all(&with(numbers));
            assert_eq!(found.len(), 1, "{numbers}: {found:?}");
            assert!(found[0].sentence.contains(words) && found[0].command.is_some(), "{found:?}");
            assert_eq!(found[0].severity, Severity::Error);
        }
    }

    #[test]
    fn slow_or_nearly_full_is_a_warning() {
        for numbers in [
            "dgfs_stored_sync_seconds_sum 60\ndgfs_stored_sync_seconds_count 100\n",
            "dgfs_stored_capacity_bytes 1000\ndgfs_stored_free_bytes 50\n",
        ] {
            let found = all(&with(numbers));
            assert_eq!(found.iter().map(|one| one.severity).collect::<Vec<_>>(), [Severity::Warning], "{found:?}");
        }
    }

    #[test]
    fn a_scrub_is_overdue_after_two_of_its_periods() {
        let scrubbed = |days: u64, period: &str| {
            let at = NOW_US / 1_000_000 - days * 86_400;
            let numbers = format!("dgfs_stored_scrubbed_timestamp_seconds {at}\n");
            let period = ("scrub_period_s".to_owned(), period.to_owned());
            data(&gathered(vec![daemon("stored", &numbers, |facts| facts.config.push(period))]))
        };
        assert_eq!(scrubbed(13, "604800"), []);
        assert_eq!(scrubbed(15, "604800").len(), 1);
        assert_eq!(scrubbed(50, "2592000"), []);
        assert_eq!(scrubbed(15, "nonsense").len(), 1);
    }

    #[test]
    fn a_directory_that_is_read_only_or_nearly_full_is_named() {
        use dgfs_proto::watch::DirectoryFacts;
        let directory = |free_bytes, read_only| {
            let directory = DirectoryFacts { path: "/srv/x".to_owned(), capacity_bytes: 1000, free_bytes, read_only };
            gathered(vec![daemon("meta", "", |facts| facts.directory = Some(directory))])
        };
        assert_eq!(all(&directory(500, false)), []);
        assert!(all(&directory(500, true))[0].sentence.contains("/srv/x"));
        assert!(all(&directory(10, false))[0].sentence.contains("nearly full"));
    }

    #[test]
    fn the_store_of_an_embedded_mount_is_looked_at_too() {
        let mut seen = gathered(Vec::new());
        seen.mounts.push(mount("/mnt/x", "dgfs_stored_capacity_bytes 1000\ndgfs_stored_free_bytes 50\n"));
        assert!(all(&seen)[0].sentence.contains("/mnt/x"));
    }
}
