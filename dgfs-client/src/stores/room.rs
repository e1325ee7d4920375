//! Servers that had no room: what is new goes where there is some.
//!
//! Never asks anybody: a refused put says it. Always: a server that was full a while ago is tried again, and while there are not
//! enough others nothing is kept from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, ServerId};
use dgfs_proto::map::ClusterMap;

/// How long a server counts as full after it refused; twice as long each time that it still is.
const FULL_FOR: Duration = Duration::from_secs(5);
const FULL_FOR_MAX: Duration = Duration::from_secs(80);

/// What is known of a server that refused.
#[derive(Clone, Copy, Debug)]
struct Full {
    until: Instant,
    lasts: Duration,
    /// Bytes of the smallest put that did not fit: one that is smaller says nothing when it fits.
    bytes: usize,
}

/// Who had no room, and until when that is believed.
#[derive(Debug, Default)]
pub(crate) struct FullServers {
    servers: Mutex<BTreeMap<ServerId, Full>>,
    /// How often one was found full that was not known to be.
    found: AtomicU64,
}

impl FullServers {
    /// A put of so many bytes was refused for want of room.
    pub(crate) fn note(&self, server: ServerId, bytes: usize) {
        let mut servers = self.servers.lock();
        let now = Instant::now();
        let full = servers.entry(server).or_insert(Full { until: now, lasts: FULL_FOR, bytes });
        // Of puts that were under way together the first one counts.
        if full.until <= now {
            let seconds = full.lasts.as_secs();
            tracing::warn!(%server, seconds, "a storage server is full: new chunks go to others while there are enough");
            self.found.fetch_add(1, Ordering::Relaxed);
            full.until = now + full.lasts;
            full.lasts = (full.lasts * 2).min(FULL_FOR_MAX);
            full.bytes = bytes;
        }
        full.bytes = full.bytes.min(bytes);
    }

    /// A put of so many bytes was taken.
    pub(crate) fn has_room(&self, server: ServerId, bytes: usize) {
        let mut servers = self.servers.lock();
        let now = Instant::now();
        let Some(full) = servers.get_mut(&server).filter(|full| full.bytes <= bytes) else { return };
        if full.until > now {
            (full.until, full.bytes) = (now, bytes);
            return;
        }
        tracing::info!(%server, "a storage server that was full takes puts again");
        servers.remove(&server);
    }

    fn now(&self) -> Vec<ServerId> {
        let (servers, now) = (self.servers.lock(), Instant::now());
        servers.iter().filter(|(_, full)| full.until > now).map(|(server, _)| *server).collect()
    }

    /// Grows when one is found full that was not known to be.
    pub(crate) fn found(&self) -> u64 {
        self.found.load(Ordering::Relaxed)
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
    async fn a_server_is_full_for_a_while_each_time_longer_or_until_it_takes_as_large_a_put() {
        let full = FullServers::default();
        full.note(ServerId(1), 1000);
        full.note(ServerId(2), 1000);
        full.has_room(ServerId(2), 999);
        assert_eq!(full.now(), [ServerId(1), ServerId(2)], "a smaller one says nothing");
        full.has_room(ServerId(2), 1000);
        assert_eq!(full.now(), [ServerId(1)]);
        full.note(ServerId(1), 2000);
        tokio::time::advance(FULL_FOR).await;
        assert_eq!(full.now(), []);
        full.note(ServerId(1), 1000);
        tokio::time::advance(FULL_FOR).await;
        assert_eq!(full.now(), [ServerId(1)]);
        tokio::time::advance(FULL_FOR).await;
        assert_eq!(full.now(), []);
    }
}
