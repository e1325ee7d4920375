//! Who failed to join too often.
//!
//! Never looks at a clock: the time is given. Always: what is remembered is
//! bounded, and one host's failures cost no other host its join.
//!
//! A token cannot be guessed (its MAC has 256 bits); the limit keeps a host that tries, or a script that repeats an
//! expired token, from filling the log and the processor.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Failures of one host within [`WINDOW`]; the next attempt is refused unseen.
pub(crate) const FAILURES_MAX: u32 = 10;
/// Counted from the first failure.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// Hosts remembered. When there are more, the one whose window began first is forgotten.
const HOSTS_MAX: usize = 1024;

/// Counts failures by host.
#[derive(Default)]
pub(crate) struct FailureLimit {
    hosts: BTreeMap<IpAddr, Failures>,
}

struct Failures {
    since: Duration,
    count: u32,
}

impl FailureLimit {
    /// How long this host has to wait; none: it may try.
    pub(crate) fn wait(&self, host: IpAddr, now: Duration) -> Option<Duration> {
        let failures = self.hosts.get(&network_of(host))?;
        let passed = now.saturating_sub(failures.since);
        (failures.count >= FAILURES_MAX && passed < WINDOW).then(|| WINDOW.saturating_sub(passed))
    }

    /// One more failure of this host.
    pub(crate) fn count(&mut self, host: IpAddr, now: Duration) {
        self.hosts.retain(|_, failures| now.saturating_sub(failures.since) < WINDOW);
        let host = network_of(host);
        if self.hosts.len() >= HOSTS_MAX && !self.hosts.contains_key(&host) {
            let oldest = self.hosts.iter().min_by_key(|(_, failures)| failures.since).map(|(host, _)| *host);
            oldest.and_then(|oldest| self.hosts.remove(&oldest));
        }
        let failures = self.hosts.entry(host).or_insert(Failures { since: now, count: 0 });
        failures.count = failures.count.saturating_add(1);
    }
}

/// A host of IPv6 has a whole /64 to itself.
fn network_of(host: IpAddr) -> IpAddr {
    match host.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::{FAILURES_MAX, FailureLimit, HOSTS_MAX, WINDOW};

    const START: Duration = Duration::from_secs(1000);

    fn host(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn limit_with_failures_of(host: IpAddr) -> FailureLimit {
        let mut limit = FailureLimit::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(limit.wait(host, START), None);
            limit.count(host, START);
        }
        limit
    }

    #[test]
    fn a_host_that_fails_too_often_waits_for_the_end_of_the_window() {
        let limit = limit_with_failures_of(host(1));
        assert_eq!(limit.wait(host(1), START), Some(WINDOW));
        let later = START + WINDOW - Duration::from_secs(7);
        assert_eq!(limit.wait(host(1), later), Some(Duration::from_secs(7)));
        assert_eq!(limit.wait(host(1), START + WINDOW), None);
        assert_eq!(limit.wait(host(2), START), None);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_host() {
        let limit = limit_with_failures_of("2001:db8::1".parse().unwrap());
        assert!(limit.wait("2001:db8::ffff:1".parse().unwrap(), START).is_some());
        assert!(limit.wait("2001:db8:0:1::1".parse().unwrap(), START).is_none());
    }

    #[test]
    fn the_number_of_hosts_remembered_is_bounded() {
        let mut limit = limit_with_failures_of(host(0));
        for number in 1..5_000 {
            limit.count(host(number), START + Duration::from_millis(u64::from(number)));
        }
        assert_eq!(limit.hosts.len(), HOSTS_MAX);
        assert_eq!(limit.wait(host(0), START + Duration::from_secs(5)), None);
    }
}
