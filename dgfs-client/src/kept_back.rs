//! Changes that this mount makes by itself and tells meta of afterwards, in order and many at once (delegation).
//!
//! Where no other session can see a directory, what a change of it will answer follows from what is known; so its program need
//! not wait. Never where a rule needs what only meta knows: such a change is asked for. Always: a program that may have to
//! rely on a change (fsync, close of a file with data), or another session that is to see it, waits until it was answered;
//! what a crash loses is a tail of the changes.
//!
//! Here: sending, and what answers mean. [`predict`]: what a change answers. [`queue`]: order and bounds.

mod predict;
mod queue;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{KeptAnswer, KeptBack, Leasing, MetaReply, Mutation, NewNode, RecallOf};
use dgfs_proto::name::Name;
use dgfs_proto::status::Status;
use dgfs_runtime::trace::follow_current;

use crate::core::Core;
use crate::handles::OpenFile;
use crate::metrics::count;
use crate::names::AskedNames;
use crate::operation::{Backoff, Op};
use crate::vfs::Forget;

pub(crate) use queue::{Changing, KeptQueue, Touched};

/// Inodes that the right to change ahead is taken for at once.
const CHILDREN_MAX: usize = 4096;

/// How long one try of sending may take before nothing more is kept back.
const TRY: Duration = Duration::from_secs(10);
/// How long nothing is kept back after something ended otherwise than it was told: until a full engine has room, a clock is
/// right again.
const PAUSE: Duration = Duration::from_secs(5);

impl Core {
    /// Sends what is kept back until the mount closes.
    pub(crate) async fn kept_back_task(self: Arc<Self>) {
        loop {
            let Some(changes) = self.unless_closing(self.link.kept.next()).await else { return };
            match self.send_kept_back(&changes).await {
                Ok(answers) => {
                    let (mut unkept, mut wrong) = (Vec::new(), Vec::new());
                    for (change, answer) in changes.iter().zip(answers) {
                        match answer {
                            KeptAnswer::Expected => {}
                            KeptAnswer::Unkept => unkept.push(&change.mutation),
                            KeptAnswer::Other(reply) => {
                                self.heard_of(change, &reply);
                                wrong.push(&change.mutation);
                            }
                        }
                    }
                    if !self.link.sole() {
                        self.doubt(&unkept).await;
                    }
                    if !wrong.is_empty() {
                        // What follows from what was told is wrong, too, perhaps.
                        self.link.kept.pause(PAUSE);
                        self.drop_caches().await;
                        // Once more: what was told may have been learnt again from what was known until now.
                        wrong.iter().for_each(|mutation| self.relearn(mutation));
                    }
                }
                Err(status) => {
                    self.give_up(&changes, status);
                    self.drop_caches().await;
                    changes.iter().for_each(|change| self.relearn(&change.mutation));
                }
            }
            changes.iter().for_each(|change| self.link.ops.finish(change.op));
            self.link.note_answered();
            self.link.kept.answer(changes.len());
        }
    }

    /// Sends one message until it is answered or meta says that it never will be.
    async fn send_kept_back(&self, changes: &[KeptBack]) -> Result<Vec<KeptAnswer>, Status> {
        let mut backoff = Backoff::new();
        loop {
            let op = Op::within(TRY, true);
            match follow_current(self.link.send_kept_back(&op, changes.to_vec())).await {
                Ok(MetaReply::KeptBack(answers)) if answers.len() == changes.len() => {
                    self.link.kept.set_stuck(false);
                    return Ok(answers);
                }
                Ok(_) => return Err(Status::Malformed),
                Err(status) if status.is_transient() && !self.link.is_dead() => {
                    tracing::debug!(changes = changes.len(), %status, "changes kept back could not be sent yet");
                    self.link.kept.set_stuck(true);
                }
                Err(status) => return Err(status),
            }
            backoff.pause(&Op::endless()).await?;
        }
    }

    /// A change ended otherwise than it was told.
    fn heard_of(&self, change: &KeptBack, reply: &MetaReply) {
        if let MetaReply::Refused(status) = *reply {
            tracing::error!(?change.mutation, %status, "a change that was told as done was refused");
            self.lose(change, status);
        } else {
            tracing::warn!(?change.mutation, ?reply, "a change ended otherwise than it was told");
            count(&self.counters.kept_otherwise);
            self.relearn(&change.mutation);
        }
    }

    /// What was sent will never be answered.
    fn give_up(&self, changes: &[KeptBack], status: Status) {
        tracing::error!(changes = changes.len(), %status, "changes that were told as done are lost: they could not be sent");
        changes.iter().for_each(|change| self.lose(change, status));
    }

    /// Whatever meta says of a file next is newer than what was told.
    fn relearn(&self, mutation: &Mutation) {
        if let Mutation::Commit(commit) = mutation
            && let Some(file) = self.files.get(commit.ino)
        {
            let mut inner = file.inner.lock();
            self.pages.forget(commit.ino);
            inner.doubt();
        }
    }

    fn lose(&self, change: &KeptBack, status: Status) {
        count(&self.counters.kept_refused);
        self.link.kept.lose(status);
        let written = match &change.mutation {
            Mutation::Commit(commit) => Some(commit.ino),
            Mutation::Make { ino, .. } => *ino,
            _ => None,
        };
        if let Some(file) = written.and_then(|ino| self.files.get(ino)) {
            file.inner.lock().fail(status);
        }
        self.relearn(&change.mutation);
    }

    /// What is known of what changes touched must not be believed any more, here and in the kernel.
    async fn doubt(&self, changes: &[&Mutation]) {
        let (mut inos, mut names) = (BTreeSet::new(), BTreeSet::new());
        for change in changes {
            if let Mutation::Make { ino: Some(made), node: NewNode::Directory, .. } = change {
                // The right to change it is its maker's all the same; but names in it may be made by others, unheard of.
                self.entries.forget(*made);
            }
            if let Touched::These(touched) = touched(change) {
                inos.extend(touched);
            }
            names.extend(names_of(change));
        }
        inos.extend(names.iter().map(|(parent, _)| *parent));
        for (parent, name) in &names {
            self.disbelieve(&RecallOf::Name { parent: *parent, name: name.clone() });
        }
        for ino in &inos {
            self.disbelieve(&RecallOf::Writes(*ino));
            if let Some(file) = self.files.get(*ino) {
                file.inner.lock().leased = false;
            }
        }
        let attrs = inos.into_iter().map(Forget::Attrs);
        let names = names.into_iter().filter(|(parent, _)| !self.busy_names.is_busy(*parent));
        self.forget_in_kernel(attrs.chain(names.map(|(parent, name)| Forget::Name(parent, name))).collect()).await;
    }

    /// An own change of names that was asked for at `asked` came with the right to change ahead.
    pub(crate) fn learn_ahead(&self, asked: AskedNames, inos: &[Ino], leasing: Leasing, removed: Option<Ino>) {
        if leasing.unkept || !leasing.ahead || self.link.sole() {
            return;
        }
        for ino in inos {
            // A recall that came meanwhile is of this answer, too, perhaps.
            let valid = || self.attrs.unchanged(asked.attrs, *ino) && self.entries.unchanged(asked.entries, *ino);
            self.link.kept.grant([*ino], valid);
        }
        if let (true, [directory]) = (leasing.children, inos) {
            let Some(children) = self.entries.all(*directory, CHILDREN_MAX) else { return };
            // The removed one may have other names.
            let children: Vec<Ino> =
                children.into_iter().map(|(_, ino)| ino).filter(|ino| Some(*ino) != removed).collect();
            let valid = || {
                self.entries.unchanged(asked.entries, *directory)
                    && children.iter().all(|ino| self.attrs.unchanged(asked.attrs, *ino))
            };
            self.link.kept.grant(children.iter().copied(), valid);
        }
    }

    /// A refusal of something that had been told as done: once for each handle.
    pub(crate) fn take_lost(&self, seen: &AtomicU64) -> Result<(), Status> {
        let Some((number, status)) = self.link.kept.lost() else { return Ok(()) };
        if seen.fetch_max(number, Ordering::AcqRel) < number { Err(status) } else { Ok(()) }
    }

    /// All errors that a handle has not reported yet, at once.
    pub(crate) fn take_errors(&self, open: &OpenFile) -> Result<(), Status> {
        let (written, lost) = (open.take_error(), self.take_lost(&open.lost_seen));
        written.and(lost)
    }

    /// What a handle opened now has nothing to do with.
    pub(crate) fn lost_before(&self) -> AtomicU64 {
        AtomicU64::new(self.link.kept.lost().map_or(0, |(number, _)| number))
    }
}

/// The names that a change is about.
fn names_of(mutation: &Mutation) -> Vec<(Ino, Name)> {
    match mutation {
        Mutation::Make { parent, name, .. } | Mutation::Remove { parent, name, .. } => vec![(*parent, name.clone())],
        Mutation::Rename { parent, name, new_parent, new_name, .. } => {
            vec![(*parent, name.clone()), (*new_parent, new_name.clone())]
        }
        _ => Vec::new(),
    }
}

/// What a change touches, as far as it says so itself.
pub(crate) fn touched(mutation: &Mutation) -> Touched {
    let these = |inos: &[Ino]| Touched::These(inos.to_vec());
    match mutation {
        Mutation::Make { parent, .. } => these(&[*parent]),
        Mutation::Link { ino, parent, .. } => these(&[*ino, *parent]),
        Mutation::SetAttr { ino, .. }
        | Mutation::SetXattr { ino, .. }
        | Mutation::RemoveXattr { ino, .. }
        | Mutation::Open { ino, .. } => these(&[*ino]),
        Mutation::Commit(commit) => these(&[commit.ino]),
        Mutation::Tag(edit) => these(&edit.inos),
        Mutation::Relate { from, to, .. } => these(&[*from, *to]),
        Mutation::CopyChunks { from, to, .. } => these(&[*from, *to]),
        // What they lead to is not said.
        Mutation::Remove { .. } | Mutation::Rename { .. } => Touched::Any,
        Mutation::Register { .. }
        | Mutation::Release { .. }
        | Mutation::Lock { .. }
        | Mutation::UnlockOwner { .. }
        | Mutation::Grant { .. }
        | Mutation::GrantInodes { .. }
        | Mutation::Tags { .. }
        | Mutation::SaveQuery { .. } => these(&[]),
    }
}
