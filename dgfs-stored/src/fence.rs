//! Sessions that are over: their calls are refused, whatever they still hold.
//!
//! Never asks: the heartbeat's answer tells, at most a second after meta ended a session. Always: a session that meta has not
//! ended is served, also one that is newer than what was told last.

use std::collections::HashSet;

use parking_lot::RwLock;

use dgfs_proto::ids::SessionId;
use dgfs_proto::meta::LivingSessions;

/// Which sessions live, as told last.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    told: RwLock<Told>,
}

#[derive(Debug, Default)]
struct Told {
    version: u64,
    /// The newest session there was.
    newest: u64,
    living: HashSet<SessionId>,
}

impl Fence {
    /// What was told last, to be told only what is newer.
    pub(crate) fn version(&self) -> u64 {
        self.told.read().version
    }

    /// Meta tells.
    pub(crate) fn learn(&self, sessions: LivingSessions) {
        let mut told = self.told.write();
        // An answer of a writer before would bring nothing back: its number is smaller.
        if sessions.version > told.version {
            let LivingSessions { version, newest, living } = sessions;
            *told = Told { version, newest, living: living.into_iter().collect() };
        }
    }

    /// Is a session over?
    pub(crate) fn is_over(&self, session: SessionId) -> bool {
        let told = self.told.read();
        session.get() <= told.newest && !told.living.contains(&session)
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::ids::SessionId;
    use dgfs_proto::meta::LivingSessions;

    use super::Fence;

    #[test]
    fn a_session_is_over_when_meta_knew_it_and_knows_it_no_more() {
        let fence = Fence::default();
        let session = |number| SessionId::new(number).unwrap();
        assert!(!fence.is_over(session(3)), "nothing was told");
        fence.learn(LivingSessions { version: 2, newest: 5, living: vec![session(3), session(5)] });
        assert!(!fence.is_over(session(3)) && fence.is_over(session(4)));
        assert!(!fence.is_over(session(6)), "it may have begun since");
        fence.learn(LivingSessions { version: 1, newest: 4, living: vec![session(4)] });
        assert!(fence.is_over(session(4)), "what is old changes nothing");
        fence.learn(LivingSessions { version: 3, newest: 6, living: vec![] });
        assert!(fence.is_over(session(3)) && fence.is_over(session(6)));
    }
}
