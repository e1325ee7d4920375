//! Keeps the renewal of an access time, which is sent after its read was answered, from overtaking a time that is set later.
//!
//! Never holds up a read. Always: while a time is being set, no renewal for an earlier read is under way (but see
//! [`SET_WAIT`]).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use dgfs_proto::ids::Ino;

/// Inodes share these.
const GATES: u64 = 64;
/// How long a set time waits for renewals: they may be waiting for a peer that is away.
const SET_WAIT: Duration = Duration::from_secs(5);

/// Renewals under way, by inode.
pub(crate) struct AtimeGates(Vec<Arc<RwLock<()>>>);

impl Default for AtimeGates {
    fn default() -> Self {
        Self((0..GATES).map(|_| Arc::default()).collect())
    }
}

impl AtimeGates {
    /// Begins a renewal for a read that is not answered yet, until the guard is dropped. None while a time is being set: it counts
    /// as the later one.
    pub(crate) fn renew(&self, ino: Ino) -> Option<OwnedRwLockReadGuard<()>> {
        Arc::clone(self.gate(ino)?).try_read_owned().ok()
    }

    /// Waits for renewals under way; none begins while the guard lives.
    pub(crate) async fn set(&self, ino: Ino) -> Option<OwnedRwLockWriteGuard<()>> {
        let gate = self.gate(ino)?;
        if let Ok(guard) = Arc::clone(gate).try_write_owned() {
            return Some(guard);
        }
        tokio::time::timeout(SET_WAIT, Arc::clone(gate).write_owned()).await.ok()
    }

    fn gate(&self, ino: Ino) -> Option<&Arc<RwLock<()>>> {
        self.0.get(usize::try_from(ino.get() % GATES).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_set_time_waits_for_renewals_and_none_begins_meanwhile() {
        let gates = Arc::new(AtimeGates::default());
        let renewal = gates.renew(Ino::ROOT).unwrap();
        let waiting = Arc::clone(&gates);
        let setting = tokio::spawn(async move { waiting.set(Ino::ROOT).await.unwrap() });
        while gates.renew(Ino::ROOT).is_some() {
            tokio::task::yield_now().await;
        }
        assert!(!setting.is_finished());
        drop(renewal);
        let guard = setting.await.unwrap();
        assert!(gates.renew(Ino::ROOT).is_none());
        drop(guard);
        assert!(gates.renew(Ino::ROOT).is_some());
    }
}
