//! Clocks, and certificates that end by them.
//!
//! Never calls a clock wrong by less than what the asking took.

use crate::cli::doctor::finding::Finding;
use crate::cli::doctor::gather::{DaemonSeen, Gathered};

/// Clocks may differ by so much, as the alert has it.
const SKEW_US: i64 = 2_000_000;
const DAY_S: i64 = 86_400;
/// Certificates are warned of so long before they end, as the alert has it.
const WARNED_S: i64 = 30 * DAY_S;
const URGENT_S: i64 = 7 * DAY_S;

/// Clocks of daemons and of this machine against the active metadata service's (or the first one's that is known).
pub(super) fn skew(seen: &Gathered) -> Vec<Finding> {
    let offsets: Vec<(&DaemonSeen, i64, i64)> = seen
        .daemons
        .iter()
        .filter_map(|daemon| {
            let told = daemon.told.as_ref().ok()?;
            let took = i64::try_from(told.took_us).unwrap_or(i64::MAX) / 2;
            let middle = i64::try_from(told.asked_us).unwrap_or(i64::MAX).saturating_add(took);
            let now = i64::try_from(told.facts.now_us).unwrap_or(i64::MAX);
            Some((daemon, now.saturating_sub(middle), took))
        })
        .collect();
    let is_active = |daemon: &DaemonSeen| daemon.numbers().is_some_and(|numbers| numbers.sum("dgfs_meta_active") > 0.0);
    let Some((judge, by, judge_took)) = offsets.iter().find(|one| is_active(one.0)).or(offsets.first()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if by.saturating_abs().saturating_sub(*judge_took) > SKEW_US {
        let (ahead, name) = (direction(by.saturating_neg()), judge.name());
        found.push(Finding::warning(
            format!("the clock of this machine is {ahead} that of {name}"),
            "timedatectl set-ntp true && timedatectl timesync-status  # or chronyc tracking",
        ));
    }
    for (daemon, offset, took) in &offsets {
        let differs = offset.saturating_sub(*by);
        let known_to = took.saturating_add(*judge_took);
        if differs.saturating_abs().saturating_sub(known_to) > SKEW_US {
            found.push(Finding::warning(
                format!("the clock of {} is {} that of {}", daemon.name(), direction(differs), judge.name()),
                daemon.there("timedatectl set-ntp true && timedatectl timesync-status"),
            ));
        }
    }
    found
}

fn direction(by_us: i64) -> String {
    let word = if by_us > 0 { "ahead of" } else { "behind" };
    format!("{:.1} s {word}", by_us.saturating_abs() as f64 / 1e6)
}

/// Certificates of daemons, and the one that asked.
pub(super) fn certificates(seen: &Gathered) -> Vec<Finding> {
    let now_s = i64::try_from(seen.now_us / 1_000_000).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    if let Some((path, until)) = &seen.identity {
        found.extend(ending(&format!("the certificate in {path}"), *until, now_s, seen, "client", None));
    }
    for daemon in &seen.daemons {
        if let Ok(told) = &daemon.told {
            let name = format!("the certificate of {}", daemon.name());
            found.extend(ending(&name, told.facts.certificate_until_s, now_s, seen, daemon.part, Some(daemon)));
        }
    }
    found
}

fn ending(
    name: &str,
    until_s: i64,
    now_s: i64,
    seen: &Gathered,
    role: &str,
    daemon: Option<&DaemonSeen>,
) -> Option<Finding> {
    let left = until_s.saturating_sub(now_s);
    // 0: the daemon does not know it.
    if until_s == 0 || left >= WARNED_S {
        return None;
    }
    let join = format!(
        "dgfs join --token @TOKEN --meta HOST:PORT --dir IDENTITY_DIR --replace  # TOKEN of: dgfs cluster token --ca CA_DIR --role {role}"
    );
    let command = match daemon {
        Some(daemon) => format!("{}; then {}", daemon.there(&join), seen.restart(daemon)),
        None => join,
    };
    if left <= 0 {
        return Some(Finding::error(format!("{name} ended {} days ago", left.saturating_neg() / DAY_S), command));
    }
    let sentence = format!("{name} ends in {} days", left / DAY_S);
    Some(if left < URGENT_S { Finding::error(sentence, command) } else { Finding::warning(sentence, command) })
}

#[cfg(test)]
mod tests {
    use super::{certificates, skew};
    use crate::cli::doctor::finding::Severity;
    use crate::cli::doctor::gather::testing::{NOW_US, daemon, gathered};

    fn with_clock(part: &'static str, offset_us: i64, numbers: &str) -> crate::cli::doctor::gather::DaemonSeen {
        daemon(part, numbers, |facts| facts.now_us = NOW_US.saturating_add_signed(offset_us))
    }

    #[test]
    fn clocks_that_agree_are_silent() {
        let all = vec![with_clock("meta", 500_000, "dgfs_meta_active 1\n"), with_clock("stored", -900_000, "")];
        assert_eq!(skew(&gathered(all)), []);
        assert_eq!(skew(&gathered(Vec::new())), []);
    }

    #[test]
    fn a_daemon_whose_clock_is_off_is_named() {
        let all = vec![with_clock("meta", 0, "dgfs_meta_active 1\n"), with_clock("stored", -5_000_000, "")];
        let found = skew(&gathered(all));
        assert_eq!(found.len(), 1);
        assert!(found[0].sentence.contains("5.0 s behind"), "{found:?}");
        assert!(found[0].command.as_deref().unwrap().contains("timedatectl"));
    }

    #[test]
    fn this_machine_is_named_when_all_others_agree() {
        let all = vec![with_clock("meta", 9_000_000, "dgfs_meta_active 1\n"), with_clock("stored", 9_000_000, "")];
        let found = skew(&gathered(all));
        assert_eq!(found.len(), 1);
        assert!(found[0].sentence.starts_with("the clock of this machine is 9.0 s behind"), "{found:?}");
    }

    #[test]
    fn the_time_that_the_asking_took_is_no_skew() {
        let mut slow = with_clock("meta", 4_000_000, "dgfs_meta_active 1\n");
        slow.told.as_mut().unwrap().took_us = 5_000_000;
        slow.told.as_mut().unwrap().facts.now_us = NOW_US + 4_000_000;
        assert_eq!(skew(&gathered(vec![slow])), []);
    }

    #[test]
    fn certificates_near_their_end_are_told_with_their_urgency() {
        let until = |days: i64| {
            daemon("meta", "", |facts| facts.certificate_until_s = (NOW_US / 1_000_000) as i64 + days * 86_400)
        };
        let of = |days| certificates(&gathered(vec![until(days)]));
        assert_eq!(of(300), []);
        assert_eq!(of(20)[0].severity, Severity::Warning);
        assert_eq!(of(3)[0].severity, Severity::Error);
        assert!(of(-2)[0].sentence.contains("ended 2 days ago"));
        let odd = certificates(&gathered(vec![daemon("meta", "", |facts| facts.certificate_until_s = i64::MIN)]));
        assert_eq!(odd[0].severity, Severity::Error);
        assert_eq!(certificates(&gathered(vec![daemon("meta", "", |facts| facts.certificate_until_s = 0)])), []);
        let mut own = gathered(Vec::new());
        own.identity = Some(("/etc/dgfs".to_owned(), (NOW_US / 1_000_000) as i64 + 100));
        assert!(certificates(&own)[0].sentence.contains("/etc/dgfs ends in 0 days"));
    }
}
