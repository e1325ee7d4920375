//! Who announced itself.
//!
//! Synchronous, in memory only: never reads a clock. Always: at most [`MEMBERS_MAX`], and nobody longer than
//! [`ANNOUNCED_MS`] after his last word.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use dgfs_proto::limits::{ANNOUNCED_MS, MEMBERS_MAX};
use dgfs_proto::meta::{Announce, MemberStatus, ProcessKind};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Peer, Role};

/// Processes by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Members {
    known: BTreeMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    who: Announce,
    seen_ms: u64,
}

impl Members {
    /// A process says that it is there. `now_ms` never goes back. What is known of it now.
    ///
    /// # Errors
    /// `Malformed` for long words, `Forbidden` when the certificate is another kind's, `Busy` when there are too many.
    pub(crate) fn hear(&mut self, peer: &Peer, mut who: Announce, now_ms: u64) -> Result<&Announce, Status> {
        if !who.is_bounded() {
            return Err(Status::Malformed);
        }
        if !peer.local && peer.role != role_of(who.kind) {
            return Err(Status::Forbidden);
        }
        who.metrics = reachable(&who.metrics, &peer.address);
        self.forget_silent(now_ms);
        if !self.known.contains_key(&who.instance) {
            // The process that had its place before.
            self.known.retain(|_, known| !takes_place_of(&who, &known.who));
            if self.known.len() >= MEMBERS_MAX {
                return Err(Status::Busy);
            }
        }
        let instance = who.instance;
        let known = Known { who, seen_ms: now_ms };
        self.known.insert(instance, known);
        self.known.get(&instance).map(|known| &known.who).ok_or(Status::Busy)
    }

    /// A process ends in order.
    pub(crate) fn leave(&mut self, peer: &Peer, instance: u64) {
        let may = |known: &Known| peer.local || peer.role == role_of(known.who.kind);
        if self.known.get(&instance).is_some_and(may) {
            self.known.remove(&instance);
        }
    }

    /// Those who said something of late, by number.
    pub(crate) fn list(&self, now_ms: u64) -> Vec<MemberStatus> {
        let silent = |known: &Known| now_ms.saturating_sub(known.seen_ms);
        let there = self.known.values().filter(|known| silent(known) <= ANNOUNCED_MS);
        there.map(|known| MemberStatus { who: known.who.clone(), silent_ms: silent(known) }).collect()
    }

    fn forget_silent(&mut self, now_ms: u64) {
        self.known.retain(|_, known| now_ms.saturating_sub(known.seen_ms) <= ANNOUNCED_MS);
    }
}

const fn role_of(kind: ProcessKind) -> Role {
    match kind {
        ProcessKind::Meta => Role::Meta,
        ProcessKind::Stored => Role::Stored,
        ProcessKind::Index => Role::Index,
        ProcessKind::Mount => Role::Client,
    }
}

fn takes_place_of(new: &Announce, old: &Announce) -> bool {
    // 127.0.0.1 is another one on each machine.
    let same_metrics = !new.metrics.is_empty() && new.metrics == old.metrics && new.host == old.host;
    let same_server = new.server.is_some() && new.server == old.server;
    new.kind == old.kind && (same_metrics || same_server)
}

/// An address of metrics that others can reach: where it is "any address", the one that the caller has.
fn reachable(metrics: &str, peer: &str) -> String {
    let Ok(address) = metrics.parse::<SocketAddr>() else { return metrics.to_owned() };
    // `NAME@IP:PORT`, as the transport names who called.
    let caller = peer.rsplit_once('@').map_or(peer, |(_, address)| address).parse::<SocketAddr>();
    match caller {
        Ok(caller) if address.ip().is_unspecified() => {
            SocketAddr::new(canonical(caller.ip()), address.port()).to_string()
        }
        Ok(_) | Err(_) => metrics.to_owned(),
    }
}

/// An IPv4 address that came through an IPv6 socket, as what it is.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::ids::ServerId;
    use dgfs_proto::limits::{ANNOUNCED_MS, MEMBERS_MAX};
    use dgfs_proto::meta::{Announce, ProcessKind};
    use dgfs_proto::status::Status;
    use dgfs_runtime::channel::{Peer, Role};

    use super::{Members, reachable};

    fn peer(role: Role) -> Peer {
        Peer { role, address: "nas-1@10.0.0.7:4711".to_owned(), local: false }
    }

    fn mount(instance: u64, metrics: &str) -> Announce {
        Announce {
            instance,
            kind: ProcessKind::Mount,
            host: "h".to_owned(),
            pid: 1,
            name: "/mnt".to_owned(),
            version: "0".to_owned(),
            metrics: metrics.to_owned(),
            started: Timestamp::from_ms(1),
            server: None,
        }
    }

    #[test]
    fn who_is_silent_for_long_is_not_there_any_more() {
        let mut members = Members::default();
        members.hear(&peer(Role::Client), mount(1, ""), 0).unwrap();
        members.hear(&peer(Role::Client), mount(2, ""), ANNOUNCED_MS).unwrap();
        let there = |members: &Members, now| members.list(now).iter().map(|one| one.who.instance).collect::<Vec<_>>();
        assert_eq!(there(&members, ANNOUNCED_MS), [1, 2]);
        assert_eq!(there(&members, ANNOUNCED_MS + 1), [2]);
    }

    #[test]
    fn a_certificate_of_another_kind_and_long_words_are_refused() {
        let mut members = Members::default();
        assert_eq!(members.hear(&peer(Role::Stored), mount(1, ""), 0), Err(Status::Forbidden));
        let long = Announce { name: "n".repeat(300), ..mount(1, "") };
        assert_eq!(members.hear(&peer(Role::Client), long, 0), Err(Status::Malformed));
        assert!(members.list(0).is_empty());
    }

    #[test]
    fn only_so_many_are_remembered_and_the_silent_make_room() {
        let mut members = Members::default();
        for instance in 0..MEMBERS_MAX as u64 {
            members.hear(&peer(Role::Client), mount(instance, ""), 0).unwrap();
        }
        assert_eq!(members.hear(&peer(Role::Client), mount(u64::MAX, ""), 5), Err(Status::Busy));
        assert!(members.hear(&peer(Role::Client), mount(7, ""), 5).is_ok(), "who is known stays known");
        assert!(members.hear(&peer(Role::Client), mount(u64::MAX, ""), ANNOUNCED_MS + 1).is_ok());
    }

    #[test]
    fn a_restarted_process_takes_the_place_of_the_one_before() {
        let mut members = Members::default();
        let stored = |instance| Announce {
            kind: ProcessKind::Stored,
            server: Some(ServerId(3)),
            ..mount(instance, "127.0.0.1:1")
        };
        members.hear(&peer(Role::Stored), stored(1), 0).unwrap();
        members.hear(&peer(Role::Client), mount(2, "127.0.0.1:1"), 0).unwrap();
        members.hear(&peer(Role::Stored), stored(3), 9).unwrap();
        let there: Vec<u64> = members.list(9).iter().map(|one| one.who.instance).collect();
        assert_eq!(there, [2, 3]);
        members.leave(&peer(Role::Client), 3);
        assert_eq!(members.list(9).len(), 2, "a mount cannot end a storage server");
        members.leave(&peer(Role::Stored), 3);
        assert_eq!(members.list(9).len(), 1);
    }

    #[test]
    fn any_address_becomes_the_callers() {
        assert_eq!(reachable("0.0.0.0:9521", "a@b@10.0.0.7:1"), "10.0.0.7:9521");
        assert_eq!(reachable("[::]:9521", "a@[::ffff:10.0.0.7]:1"), "10.0.0.7:9521");
        assert_eq!(reachable("[::]:9521", "a@[fd00::7]:1"), "[fd00::7]:9521");
        assert_eq!(reachable("10.0.0.9:9521", "a@10.0.0.7:1"), "10.0.0.9:9521");
        assert_eq!(reachable("nas:9521", "a@10.0.0.7:1"), "nas:9521");
        assert_eq!(reachable("", "local"), "");
    }
}
