//! fcntl and flock locks.
//!
//! Never holds a lock by itself: meta does. Always: a waiting lock has one mutation under way at a time, and survives
//! reconnects. What the holder before wrote need not be fetched here: leases keep every mount's view true.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use dgfs_proto::ids::{Ino, OpId};
use dgfs_proto::limits::OPS_IN_FLIGHT_MAX;
use dgfs_proto::meta::{LockFamily, LockKind, LockSpec, MetaReply, MetaRequest, Mutation, Query};
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::file::state::FileState;
use crate::operation::Op;
use crate::vfs::{Handle, LockTicket};

/// A wait keeps its answer open, and with it every later one counts as unacknowledged. When so many pile up behind it,
/// the wait is taken back and begun anew.
const SPAN_MAX: usize = OPS_IN_FLIGHT_MAX / 2;
const CANCEL: Duration = Duration::from_secs(10);
/// One parked wait; the connection's life bounds it, not this.
const PARK: Duration = Duration::from_secs(24 * 3600);

/// Lock waits under way.
#[derive(Default)]
pub(crate) struct LockWaits {
    waits: Mutex<HashMap<LockTicket, Wait>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wait {
    op: Option<OpId>,
    cancelled: bool,
    renewing: bool,
}

impl Core {
    pub(crate) async fn test_lock(&self, handle: Handle, lock: LockSpec) -> Result<Option<LockSpec>, Status> {
        let ino = self.handles.file(handle)?.file.ino;
        let op = self.op();
        match self.link.query(&op, Query::TestLock { ino, lock }).await? {
            MetaReply::LockHolder(holder) => Ok(holder),
            _ => Err(Status::Malformed),
        }
    }

    pub(crate) async fn lock(
        self: &Arc<Self>,
        handle: Handle,
        lock: LockSpec,
        wait: Option<LockTicket>,
    ) -> Result<(), Status> {
        let open = self.handles.file(handle)?;
        let (file, ino) = (&open.file, open.file.ino);
        if lock.kind == LockKind::Unlock {
            return self.unlock(file, lock).await;
        }
        if lock.family == LockFamily::Posix {
            file.posix_locked.store(true, Ordering::Release);
        }
        match wait {
            None => {
                let op = self.op();
                let _ = self.link.mutate(&op, Mutation::Lock { ino, lock, wait: false }).await?;
            }
            Some(ticket) => {
                // The file may have been made a moment ago.
                self.link.kept.drained(&self.op()).await?;
                self.wait_for_lock(ino, lock, ticket).await?;
            }
        }
        Ok(())
    }

    async fn unlock(self: &Arc<Self>, file: &Arc<FileState>, lock: LockSpec) -> Result<(), Status> {
        let op = self.op();
        let _ = self.link.mutate(&op, Mutation::Lock { ino: file.ino, lock, wait: false }).await?;
        Ok(())
    }

    async fn wait_for_lock(&self, ino: Ino, lock: LockSpec, ticket: LockTicket) -> Result<(), Status> {
        let op = Op::endless();
        self.lock_waits.waits.lock().insert(ticket, Wait { op: None, cancelled: false, renewing: false });
        let outcome = loop {
            let id = self.link.ops.begin();
            let cancelled = self.lock_waits.change(ticket, |wait| {
                wait.op = Some(id);
                wait.renewing = false;
                wait.cancelled
            });
            if cancelled {
                self.link.ops.finish(id);
                break Err(Status::Interrupted);
            }
            let answer = self.link.mutate_as(&op, id, Mutation::Lock { ino, lock, wait: true }, PARK).await;
            match answer {
                Err(Status::Interrupted) => {
                    let go_on = self.lock_waits.change(ticket, |wait| wait.renewing && !wait.cancelled);
                    if !go_on {
                        break Err(Status::Interrupted);
                    }
                }
                other => break other.map(|_| ()),
            }
        };
        self.lock_waits.waits.lock().remove(&ticket);
        outcome
    }

    /// Takes waits back that keep too many answers open; each begins anew by itself.
    fn renew_old_waits(&self) {
        if self.link.ops.span() < SPAN_MAX {
            return;
        }
        let oldest = self.link.ops.acked().0 + 1;
        let mut waits = self.lock_waits.waits.lock();
        for wait in waits.values_mut() {
            if wait.op.is_some_and(|op| op.0 <= oldest + SPAN_MAX as u64 / 2) {
                wait.renewing = true;
            }
        }
    }

    /// Sends the cancellations that [`Self::renew_old_waits`] asked for. Run by the write-back task.
    pub(crate) async fn cancel_renewing(&self, op: &Op) {
        if self.link.ops.span() < SPAN_MAX {
            return;
        }
        self.renew_old_waits();
        let renewing: Vec<OpId> =
            self.lock_waits.waits.lock().values().filter(|wait| wait.renewing).filter_map(|wait| wait.op).collect();
        for id in renewing {
            // A wait that was granted meanwhile is not cancelled; its answer is on its way.
            drop(self.link.call(op, MetaRequest::CancelWait(id), CANCEL).await);
        }
    }

    pub(crate) async fn cancel_lock(&self, ticket: LockTicket) {
        let id = {
            let mut waits = self.lock_waits.waits.lock();
            let Some(wait) = waits.get_mut(&ticket) else { return };
            wait.cancelled = true;
            wait.op
        };
        if let Some(id) = id {
            let op = self.background_op();
            if let Err(status) = self.link.call(&op, MetaRequest::CancelWait(id), CANCEL).await {
                tracing::debug!(%status, "a lock wait could not be taken back yet");
            }
        }
    }

    pub(crate) async fn unlock_owner(self: &Arc<Self>, ino: Ino, family: LockFamily, owner: u64) {
        let op = self.op();
        if let Some(file) = self.files.get(ino)
            && family == LockFamily::Posix
            && !file.posix_locked.load(Ordering::Acquire)
        {
            return;
        }
        self.unlock_all(&op, ino, family, owner).await;
    }

    /// Gives up all locks of an owner on an inode.
    pub(crate) async fn unlock_all(self: &Arc<Self>, op: &Op, ino: Ino, family: LockFamily, owner: u64) {
        if let Err(status) = self.link.mutate(op, Mutation::UnlockOwner { ino, family, owner }).await {
            tracing::warn!(ino = ino.get(), %status, "locks could not be given up; they end with the session");
        }
    }
}

impl LockWaits {
    fn change<T: Default>(&self, ticket: LockTicket, act: impl FnOnce(&mut Wait) -> T) -> T {
        self.waits.lock().get_mut(&ticket).map(act).unwrap_or_default()
    }
}
