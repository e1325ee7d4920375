//! Servers that had no room: what is new goes where there is some.
//!
//! Never asks anybody: a refused put says it. Always: a server that was full a moment ago is tried again soon, and while there
//! are not enough others nothing is kept from it.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, ServerId};
use dgfs_proto::map::ClusterMap;

/// How long a server counts as full after it refused.
const FULL_FOR: Duration = Duration::from_secs(5);

/// Who had no room, and until when that is believed.
#[derive(Debug, Default)]
pub(crate) struct FullServers {
    until: Mutex<BTreeMap<ServerId, Instant>>,
}

impl FullServers {
    /// A put was refused for want of room.
    pub(crate) fn note(&self, server: ServerId) {
        if self.until.lock().insert(server, Instant::now() + FULL_FOR).is_none() {
            tracing::warn!(%server, "a storage server is full: new chunks go to others while there are enough of them");
        }
    }

    /// A put was taken.
    pub(crate) fn has_room(&self, server: ServerId) {
        let mut until = self.until.lock();
        if !until.is_empty() && until.remove(&server).is_some() {
            tracing::info!(%server, "a storage server that was full takes puts again");
        }
    }

    fn now(&self) -> Vec<ServerId> {
        let (until, now) = (self.until.lock(), Instant::now());
        until.iter().filter(|(_, until)| **until > now).map(|(server, _)| *server).collect()
    }

    /// Would a write of this chunk go to one of them?
    pub(crate) fn would_meet(&self, map: &ClusterMap, chunk: ChunkId) -> bool {
        let full = self.now();
        !full.is_empty() && map.write_set(chunk).targets.iter().any(|(server, _)| full.contains(server))
    }

    /// Are there servers enough for a chunk without them?
    pub(crate) fn leave_enough(&self, map: &ClusterMap, class: Class) -> bool {
        let full = self.now();
        let takes = |id: ServerId, weight: u32| weight > 0 && map.is_up(id) && !full.contains(&id);
        map.servers.iter().filter(|server| takes(server.id, server.weight)).count() >= class.width()
    }
}

#[cfg(test)]
mod tests {
    use super::{FULL_FOR, FullServers, ServerId};

    #[tokio::test(start_paused = true)]
    async fn a_server_is_full_for_a_while_or_until_it_takes_a_put() {
        let full = FullServers::default();
        full.note(ServerId(1));
        full.note(ServerId(2));
        assert_eq!(full.now(), [ServerId(1), ServerId(2)]);
        full.has_room(ServerId(2));
        assert_eq!(full.now(), [ServerId(1)]);
        tokio::time::advance(FULL_FOR).await;
        assert_eq!(full.now(), []);
    }
}
