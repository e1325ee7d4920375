//! Orphans: inodes without a name that go with their last close.

use dgfs_proto::attr::Timestamp;
use dgfs_proto::meta::MetaReply;

use crate::core::tx::Stop;
use crate::core::{Core, Outcome, ops};

impl Core {
    /// Reaps one step of one orphan, if any can be.
    pub(crate) fn reap(&mut self, now: Timestamp) -> Option<Outcome> {
        let ino = *self.reapable.front()?;
        if self.opens.is_open(ino) || !self.orphans.contains(&ino) {
            self.reapable.pop_front();
            return Some(Outcome::More);
        }
        Some(match self.run(now, None, |tx| ops::free::reap(tx, ino)) {
            Ok(((), _, true)) => Outcome::More,
            Ok(((), ticket, false)) => {
                self.reapable.pop_front();
                self.orphans.remove(&ino);
                Outcome::Answer { reply: MetaReply::Done, ticket }
            }
            Err(Stop::Need(need)) => Outcome::Need(need),
            Err(Stop::Refused(status)) => {
                self.reapable.pop_front();
                Outcome::Answer { reply: MetaReply::Refused(status), ticket: 0 }
            }
        })
    }
}
