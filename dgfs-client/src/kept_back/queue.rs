//! The queue of changes kept back, and the order between them and everything else that is asked of meta.
//!
//! Never lets two changes of one inode pass each other. Always: a question is asked only once everything kept back before it
//! was answered; while a change that was asked for is under way, nothing that it touches is kept back.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::{Ino, OpId};
use dgfs_proto::limits::{KEPT_BACK_BYTES_MAX, KEPT_BACK_MAX};
use dgfs_proto::meta::{KeptBack, MetaReply, Mutation, NewContent, NewNode, digest};
use dgfs_proto::status::Status;

use crate::core::now;
use crate::operation::Op;

/// Changes waiting; beyond, changes are asked for one by one.
const QUEUE_MAX: usize = 4096;
/// Bytes of names and contents in them, roughly.
const QUEUE_BYTES_MAX: usize = 4 << 20;
/// How long changes gather while nobody waits for them.
const GATHER: Duration = Duration::from_millis(20);
/// So many are sent without gathering more.
const GATHERED: usize = 128;

/// Changes kept back, oldest first.
#[derive(Debug, Default)]
pub(crate) struct KeptQueue {
    state: Mutex<State>,
    /// Something was kept back, or somebody waits.
    due: Notify,
    /// Answers came, or changes that were asked for ended.
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// Changes kept back, and those of them that were answered, since the mount began.
    taken: u64,
    answered: u64,
    /// Somebody waits for all up to here.
    wanted: u64,
    /// Inodes at which nobody else may look before what is kept back of them was sent (where others exist).
    rights: HashSet<Ino>,
    /// What changes under way touch that were asked for; how many may touch anything.
    busy: HashMap<Ino, u32>,
    busy_all: u32,
    /// Meta does not answer: nothing more is kept back.
    stuck: bool,
    /// Nothing is kept back until then.
    paused: Option<Instant>,
    /// The last refusal of something that had been told as done, numbered.
    lost: Option<(u64, Status)>,
}

#[derive(Debug)]
struct Waiting {
    change: KeptBack,
    bytes: usize,
    since: Instant,
}

/// While it lives, nothing that a change under way touches is kept back.
#[derive(Debug)]
pub(crate) struct Changing<'a> {
    queue: &'a KeptQueue,
    touched: Touched,
}

/// The inodes that a change touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    These(Vec<Ino>),
    Any,
}

/// The queue, locked, while nothing stands in the way of one more change.
pub(crate) struct Place<'a> {
    state: MutexGuard<'a, State>,
    queue: &'a KeptQueue,
    alone: bool,
    /// When the change happens.
    pub(crate) now: Timestamp,
}

impl KeptQueue {
    /// A place for a change of `inos`; none when it must be asked for. `alone` says that no other session exists.
    pub(crate) fn place(&self, inos: &[Ino], alone: impl FnOnce() -> bool) -> Option<Place<'_>> {
        let state = self.state.lock();
        let full = state.waiting.len() >= QUEUE_MAX || state.bytes >= QUEUE_BYTES_MAX;
        let busy = state.busy_all > 0 || inos.iter().any(|ino| state.busy.contains_key(ino));
        // Asked under the lock: whoever ends it waits for what is in the queue afterwards.
        let alone = alone();
        let allowed = alone || inos.iter().all(|ino| state.rights.contains(ino));
        let paused = state.paused.is_some_and(|until| Instant::now() < until);
        (!full && !busy && !state.stuck && !paused && allowed).then(|| Place { state, queue: self, alone, now: now() })
    }

    /// Changes of these may be kept back, unless `valid` says otherwise, which is asked under the lock.
    pub(crate) fn grant(&self, inos: impl IntoIterator<Item = Ino>, valid: impl FnOnce() -> bool) {
        let mut state = self.state.lock();
        if valid() {
            state.rights.extend(inos);
        }
    }

    /// Nothing more of it is kept back. What is known of it must have been given up before: a right that comes with an
    /// answer from before is not taken then.
    pub(crate) fn revoke(&self, ino: Ino) {
        self.state.lock().rights.remove(&ino);
    }

    /// Nothing more is kept back.
    pub(crate) fn revoke_all(&self) {
        self.state.lock().rights.clear();
    }

    /// Is there anything that was not answered yet?
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }

    /// May changes of it be kept back?
    pub(crate) fn may_keep_back(&self, ino: Ino) -> bool {
        self.state.lock().rights.contains(&ino)
    }

    /// Waits until everything kept back so far was answered.
    pub(crate) async fn drained(&self, op: &Op) -> Result<(), Status> {
        let all = self.state.lock().taken;
        self.answered(op, all).await
    }

    /// Waits until the first `count` changes were answered.
    pub(crate) async fn answered(&self, op: &Op, count: u64) -> Result<(), Status> {
        if self.is_answered(count) {
            return Ok(());
        }
        let waiting = async {
            loop {
                let settled = self.settled.notified();
                tokio::pin!(settled);
                settled.as_mut().enable();
                if self.is_answered(count) {
                    return Ok(());
                }
                if op.soft && self.state.lock().stuck {
                    return Err(Status::Unavailable);
                }
                self.due.notify_one();
                settled.await;
            }
        };
        match op.remaining() {
            Some(patience) => tokio::time::timeout(patience, waiting).await.unwrap_or(Err(Status::Unavailable)),
            None => waiting.await,
        }
    }

    fn is_answered(&self, count: u64) -> bool {
        let mut state = self.state.lock();
        state.wanted = state.wanted.max(count);
        state.answered >= count
    }

    /// From now on nothing that `touched` names is kept back; waits until everything that was is answered.
    pub(crate) async fn exclusive(&self, op: &Op, touched: Touched) -> Result<Changing<'_>, Status> {
        let taken = {
            let mut state = self.state.lock();
            state.begin(&touched);
            state.taken
        };
        let changing = Changing { queue: self, touched };
        self.answered(op, taken).await?;
        Ok(changing)
    }

    /// Waits for changes to send: in their order, one message full. They stay in the queue until [`Self::answer`].
    pub(crate) async fn next(&self) -> Vec<KeptBack> {
        loop {
            let due = self.due.notified();
            let pause = {
                let state = self.state.lock();
                match state.due_in() {
                    Some(Duration::ZERO) => return state.front(),
                    pause => pause,
                }
            };
            match pause {
                Some(pause) => drop(tokio::time::timeout(pause, due).await),
                None => due.await,
            }
        }
    }

    /// The first `count` changes were answered, or are given up.
    pub(crate) fn answer(&self, count: usize) {
        let mut state = self.state.lock();
        for _ in 0..count {
            let Some(waiting) = state.waiting.pop_front() else { break };
            state.bytes -= waiting.bytes;
            state.answered += 1;
        }
        drop(state);
        self.settled.notify_waiters();
    }

    /// Meta does (not) answer.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        let before = std::mem::replace(&mut self.state.lock().stuck, stuck);
        if before != stuck {
            self.settled.notify_waiters();
        }
    }

    /// Nothing is kept back for a while.
    pub(crate) fn pause(&self, span: Duration) {
        self.state.lock().paused = Instant::now().checked_add(span);
    }

    /// Something that had been told as done was refused.
    pub(crate) fn lose(&self, status: Status) {
        let mut state = self.state.lock();
        let number = state.lost.map_or(1, |(number, _)| number + 1);
        state.lost = Some((number, status));
    }

    /// The last such refusal.
    pub(crate) fn lost(&self) -> Option<(u64, Status)> {
        self.state.lock().lost
    }

    /// Changes that wait for their answers, and their bytes.
    pub(crate) fn depth(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.waiting.len() as u64, state.bytes as u64)
    }
}

impl State {
    fn begin(&mut self, touched: &Touched) {
        match touched {
            Touched::These(inos) => inos.iter().for_each(|ino| *self.busy.entry(*ino).or_insert(0) += 1),
            Touched::Any => self.busy_all += 1,
        }
    }

    fn end(&mut self, touched: &Touched) {
        let Touched::These(inos) = touched else {
            self.busy_all -= 1;
            return;
        };
        for ino in inos {
            if let Some(count) = self.busy.get_mut(ino) {
                *count -= 1;
                if *count == 0 {
                    self.busy.remove(ino);
                }
            }
        }
    }

    /// When the first change should be sent.
    fn due_in(&self) -> Option<Duration> {
        let first = self.waiting.front()?;
        if self.wanted > self.answered || self.waiting.len() >= GATHERED {
            return Some(Duration::ZERO);
        }
        Some(GATHER.saturating_sub(first.since.elapsed()))
    }

    fn front(&self) -> Vec<KeptBack> {
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.bytes;
            bytes <= KEPT_BACK_BYTES_MAX
        };
        self.waiting.iter().take(KEPT_BACK_MAX).take_while(fits).map(|waiting| waiting.change.clone()).collect()
    }
}

impl Place<'_> {
    /// Is there no other session?
    pub(crate) const fn is_alone(&self) -> bool {
        self.alone
    }

    /// What is about to be made nobody else knows.
    pub(crate) fn own(&mut self, ino: Ino) {
        if !self.alone {
            self.state.rights.insert(ino);
        }
    }

    /// What is about to be removed.
    pub(crate) fn disown(&mut self, ino: Ino) {
        self.state.rights.remove(&ino);
    }

    /// Keeps a change back whose answer will be `reply`; how many were kept back with it.
    pub(crate) fn take(mut self, op: OpId, mutation: Mutation, reply: &MetaReply) -> u64 {
        let bytes = bytes_of(&mutation);
        let change = KeptBack { op, at: self.now, mutation, expected: digest(reply) };
        let state = &mut *self.state;
        state.waiting.push_back(Waiting { change, bytes, since: Instant::now() });
        state.bytes += bytes;
        state.taken += 1;
        if state.waiting.len() == 1 || state.waiting.len() == GATHERED {
            self.queue.due.notify_one();
        }
        state.taken
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.queue.state.lock().end(&self.touched);
    }
}

/// Roughly the encoded length: never less.
fn bytes_of(mutation: &Mutation) -> usize {
    const REST: usize = 160;
    const EDIT: usize = 64;
    REST + match mutation {
        Mutation::Make { name, node: NewNode::Symlink(target), .. } => name.as_bytes().len() + target.len(),
        Mutation::Make { name, .. } | Mutation::Remove { name, .. } => name.as_bytes().len(),
        Mutation::Rename { name, new_name, .. } => name.as_bytes().len() + new_name.as_bytes().len(),
        Mutation::Commit(commit) => match &commit.content {
            NewContent::Inline { bytes, .. } => bytes.len(),
            NewContent::Slots { edits, .. } => edits.len() * EDIT,
        },
        _ => 0,
    }
}
