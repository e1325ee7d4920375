//! Changes that a client kept back: one message, one batch of the engine where nothing has to be read or told in between.
//!
//! Never answers before all of them are in the engine. Always: a repetition waits for the message that carries them out.

use dgfs_proto::ids::{OpId, SessionId};
use dgfs_proto::limits::KEPT_BACK_MAX;
use dgfs_proto::meta::{KeptAnswer, KeptBack, MetaReply};
use dgfs_proto::status::Status;
use dgfs_runtime::trace::{Stage, timed};

use crate::core::{Attempt, Batch, Core, grows};
use crate::service::active::{Active, Dead};
use crate::service::full::Fate;
use crate::service::now;

impl Active {
    /// Applies changes in their order, each once.
    pub(crate) async fn kept_back(
        &self,
        session: SessionId,
        acked: OpId,
        changes: &[KeptBack],
    ) -> Result<MetaReply, Dead> {
        let in_order = changes.is_sorted_by(|a, b| a.op < b.op);
        let Some(first) =
            changes.first().filter(|first| in_order && changes.len() <= KEPT_BACK_MAX && first.op > acked)
        else {
            return Ok(MetaReply::Refused(Status::Malformed));
        };
        if !self.core.lock().touch(session, now(&self.options.clock)) {
            return Ok(MetaReply::Refused(Status::Stale));
        }
        self.claim((session, first.op)).await?;
        let answer = self.apply_kept_back((session, acked), changes).await;
        self.core.lock().end(session, first.op);
        self.answered.notify_waiters();
        answer
    }

    async fn apply_kept_back(
        &self,
        (session, acked): (SessionId, OpId),
        changes: &[KeptBack],
    ) -> Result<MetaReply, Dead> {
        let mut full = self.refuses(true) && changes.iter().any(|change| grows(&change.mutation));
        loop {
            let answers = Vec::with_capacity(changes.len());
            let mut batch = Batch { session, acked, changes, answers, generation: 0, full };
            let mut newest = 0;
            while batch.answers.len() < changes.len() {
                let step = |core: &mut Core, attempt: &mut Attempt<'_>| {
                    core.apply_kept_back(now(&self.options.clock), &mut batch, attempt)
                };
                match self.attempt(step).await? {
                    (MetaReply::Refused(status), ticket) => {
                        // What was applied before it is known by its number when the same is sent again.
                        let _: Fate = self.commit_up_to(newest.max(ticket)).await?;
                        return Ok(MetaReply::Refused(status));
                    }
                    (_, ticket) => newest = newest.max(ticket),
                }
            }
            match timed(Stage::Commit, self.commit_up_to(newest)).await? {
                Fate::Committed => return Ok(MetaReply::KeptBack(batch.answers)),
                // What removes may have shared its batch with what grows: it gets a second try.
                Fate::Refused if !full => full = true,
                Fate::Refused => {
                    let refused = || KeptAnswer::Other(Box::new(MetaReply::Refused(Status::NoSpace)));
                    let core = self.core.lock();
                    // Those in front may have been in a batch that there was room for.
                    let answer = |change: &KeptBack| core.kept_back_answer(session, change.op).unwrap_or_else(refused);
                    return Ok(MetaReply::KeptBack(changes.iter().map(answer).collect()));
                }
            }
        }
    }
}
