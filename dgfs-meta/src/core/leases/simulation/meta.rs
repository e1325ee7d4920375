//! What meta does: it asks the leases, recalls, carries out and answers.

use dgfs_proto::ids::SessionId;

use super::{Ask, Key, Message, Waiting, World, directory_of, ino, name, place, session};
use crate::core::leases::{Changes, Told};

impl World {
    /// Meta tries an operation.
    pub(super) fn attempt(&mut self, waiting: Waiting) {
        let Waiting { from, id, ask, wait } = waiting;
        if self.fenced.contains(&from) {
            wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
            return;
        }
        let who = session(from);
        let (inode, changes) = (told_of(&ask), changes_of(&ask));
        let mut wanted = self.leases.kept_back(who, inode.map(ino).into_iter());
        wanted.extend(self.leases.conflicts(who, &changes, wait));
        if !wanted.is_empty() {
            self.recalls += wanted.len() as u64;
            let wait = Some(self.leases.recall(wait, wanted, self.now));
            let _ = self.leases.take_rung();
            self.waiting.push(Waiting { from, id, ask, wait });
            return;
        }
        if !matches!(ask, Ask::Read(_)) {
            wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
        }
        let (value, kept, ahead) = self.perform(who, &ask);
        wait.into_iter().for_each(|wait| self.leases.end_wait(wait));
        self.answered.insert((from, id), value);
        self.send(Message::Answer { to: from, id, value, kept, ahead });
    }

    /// Nothing stands in the way of it: its value, whether that may be believed, and the right that comes with it.
    fn perform(&mut self, who: SessionId, ask: &Ask) -> (u64, bool, bool) {
        let mut ahead = false;
        let (value, kept) = match ask {
            Ask::Recalled(ids) => {
                self.leases.carried_out(who, ids);
                (0, false)
            }
            Ask::Read(key) => {
                let value = self.truth.get(key).copied().unwrap_or(0);
                (value, self.leases.lease(who, &[told(*key)]))
            }
            Ask::Change(key) => {
                self.counter += 1;
                self.changes += 1;
                self.truth.insert(*key, self.counter);
                let kept = self.leases.lease(who, &[told(*key)]);
                if let (true, Key::Name(of)) = (kept, key) {
                    let directory = ino(directory_of(*of));
                    let at_work = self.leases.is_at_work(who, directory);
                    ahead = at_work
                        && !self.leases.is_held_elsewhere(directory, who)
                        && self.leases.lease_writes(who, directory);
                }
                (self.counter, kept)
            }
            Ask::FlushNames(names) => {
                for (of, value) in names {
                    let before = self.truth.insert(Key::Name(*of), *value).unwrap_or(0);
                    assert!(before < *value, "name {of}: {value} was kept back while it was changed to {before}");
                }
                let told: Vec<Told> = names.iter().map(|(of, _)| told(Key::Name(*of))).collect();
                (0, self.leases.lease(who, &told))
            }
            Ask::Flush(of, value) => {
                self.truth.insert(Key::Content(*of), *value);
                (*value, self.leases.lease(who, &[told(Key::Content(*of))]))
            }
            Ask::Writes(of) => {
                let granted = self.leases.lease_writes(who, ino(*of));
                (self.truth.get(&Key::Content(*of)).copied().unwrap_or(0), granted)
            }
        };
        (value, kept, ahead)
    }
}

/// The inode, or directory, of which the answer tells something.
fn told_of(ask: &Ask) -> Option<u64> {
    match ask {
        Ask::Read(Key::Attrs(of) | Key::Content(of)) | Ask::Change(Key::Attrs(of)) => Some(*of),
        Ask::Read(Key::Name(of)) | Ask::Change(Key::Name(of)) => Some(directory_of(*of)),
        _ => None,
    }
}

fn changes_of(ask: &Ask) -> Changes {
    match ask {
        Ask::Read(_) | Ask::Recalled(_) => Changes::default(),
        Ask::Change(Key::Attrs(of)) => Changes { attrs: vec![(ino(*of), of % 2 == 0)], ..Changes::default() },
        Ask::Change(Key::Content(of)) | Ask::Writes(of) | Ask::Flush(of, _) => {
            Changes { content: vec![ino(*of)], ..Changes::default() }
        }
        Ask::Change(Key::Name(of)) => Changes { names: vec![place(*of)], ..Changes::default() },
        Ask::FlushNames(names) => {
            let names = names.iter().map(|(of, _)| place(*of)).collect();
            Changes { names, ..Changes::default() }
        }
    }
}

fn told(key: Key) -> Told {
    match key {
        Key::Attrs(of) | Key::Content(of) => Told::Inode(ino(of)),
        Key::Name(of) => Told::Name(ino(directory_of(of)), name(of)),
    }
}
