//! Telling meta which files are open: opens that were taken without asking, and releases.
//!
//! One message after the other. Never leaves a registration without a verdict to itself: the same is asked again, under the
//! same number, before anything else goes. Always: nothing of what a caller wants registered is still on its way when it
//! returns.

use std::time::Duration;

use tokio::sync::MutexGuard;

use dgfs_proto::ids::{Ino, OpId};
use dgfs_proto::meta::Mutation;
use dgfs_proto::status::Status;

use crate::core::Core;
use crate::operation::{Backoff, Op};

const PATIENCE: Duration = Duration::from_secs(3600);

/// Opens of which meta may have heard.
#[derive(Debug)]
pub(crate) struct Registering {
    op: OpId,
    opens: Vec<(Ino, u32)>,
    /// How often all opens had been told together.
    told_before: u64,
}

impl Core {
    async fn in_order(&self, op: &Op) -> Result<MutexGuard<'_, Option<Registering>>, Status> {
        let waiting = tokio::time::timeout(op.left(PATIENCE), self.registering.lock()).await;
        waiting.map_err(|_| Status::Unavailable)
    }

    /// Tells meta of opens that were taken without asking: of one inode, or of all.
    pub(crate) async fn register_own_opens(&self, op: &Op, which: Option<Ino>) -> Result<(), Status> {
        let mut backoff = Backoff::new();
        loop {
            let mut in_order = self.in_order(op).await?;
            self.end_registration(op, &mut in_order).await?;
            let (opens, told_before) = self.link.ledger.take_own(which);
            if !opens.is_empty() {
                *in_order = Some(Registering { op: self.link.ops.begin(), opens, told_before });
                self.end_registration(op, &mut in_order).await?;
                continue;
            }
            drop(in_order);
            if !self.link.ledger.is_telling(which) {
                return Ok(());
            }
            // The session is being taken up, which tells them.
            backoff.pause(op).await?;
        }
    }

    /// Brings a registration to its end.
    async fn end_registration(&self, op: &Op, in_order: &mut Option<Registering>) -> Result<(), Status> {
        let Some(Registering { op: id, opens, told_before }) = &*in_order else { return Ok(()) };
        let (id, opens) = (*id, opens.clone());
        let answer = if self.link.ledger.told_all_since(*told_before) {
            Ok(())
        } else {
            self.link.mutate_again(op, id, Mutation::Register { opens: opens.clone() }).await.map(drop)
        };
        match answer {
            Ok(()) => self.link.ledger.told(&opens),
            // It may have been carried out: the same is asked once more the next time.
            Err(status) if status.is_transient() => return Err(status),
            Err(_) => self.link.ledger.give_own_back(&opens),
        }
        *in_order = None;
        self.link.ops.finish(id);
        answer
    }

    /// Sends waiting releases.
    pub(crate) async fn send_releases(&self, op: &Op) {
        let Ok(mut in_order) = self.in_order(op).await else { return };
        // A release must not pass the registration of what it releases.
        if self.end_registration(op, &mut in_order).await.is_err_and(Status::is_transient) {
            return;
        }
        loop {
            let opens = self.link.ledger.take_releases();
            if opens.is_empty() {
                return;
            }
            if let Err(status) = self.link.mutate(op, Mutation::Release { opens }).await {
                // Meta gives the opens up when the session ends.
                tracing::warn!(%status, "some closed files could not be reported to the metadata service");
                return;
            }
        }
    }
}
