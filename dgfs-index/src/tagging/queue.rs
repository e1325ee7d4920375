//! Which files are due to be looked at, and when.
//!
//! Never holds more than [`FILES_MAX`] files: then no more changes are taken from the index before some were looked at.
//! Always: a file is looked at only after it was left alone for a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use dgfs_proto::ids::Ino;

/// Files that wait at most: their memory stays below 20 MiB.
const FILES_MAX: usize = 100_000;
/// A file's kind is told so long after its last change: several changes in a row are one.
const KIND_AFTER: Duration = Duration::from_millis(20);
/// Its content is looked at so long after.
const CONTENT_AFTER: Duration = Duration::from_millis(400);

#[derive(Clone, Copy, Default)]
struct Waits {
    kind: Option<Instant>,
    content: Option<Instant>,
    /// Whose look is due whatever is known, each until it was taken: what is kept of a kind is a change of the file, which must not
    /// make the kind due for ever.
    forced: Forced,
}

#[derive(Clone, Copy, Default)]
struct Forced {
    kind: bool,
    content: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    files: BTreeMap<Ino, Waits>,
    kinds: BTreeSet<(Instant, Ino)>,
    contents: BTreeSet<(Instant, Ino)>,
}

/// Inodes, and whether they are looked at whatever is known.
pub(super) type Due = Vec<(Ino, bool)>;

impl Queue {
    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= FILES_MAX
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// A file changed, perhaps.
    pub(super) fn changed(&mut self, ino: Ino, now: Instant) {
        let forced = self.files.get(&ino).map(|waits| waits.forced).unwrap_or_default();
        self.forget(ino);
        let waits = Waits { kind: Some(now + KIND_AFTER), content: Some(now + CONTENT_AFTER), forced };
        self.kinds.extend(waits.kind.map(|at| (at, ino)));
        self.contents.extend(waits.content.map(|at| (at, ino)));
        self.files.insert(ino, waits);
    }

    /// Somebody wants it looked at.
    pub(super) fn force(&mut self, ino: Ino, now: Instant) {
        self.changed(ino, now);
        if let Some(waits) = self.files.get_mut(&ino) {
            waits.forced = Forced { kind: true, content: true };
        }
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, ino: Ino) {
        if let Some(waits) = self.files.remove(&ino) {
            waits.kind.map(|at| self.kinds.remove(&(at, ino)));
            waits.content.map(|at| self.contents.remove(&(at, ino)));
        }
    }

    /// Those whose kind, and those whose content is due, at most so many of each.
    pub(super) fn take_due(&mut self, now: Instant, (kinds_max, contents_max): (usize, usize)) -> (Due, Due) {
        let kinds = take(&mut self.kinds, now, kinds_max);
        let contents = take(&mut self.contents, now, contents_max);
        let forced = |ino: Ino| self.files.get(&ino).map(|waits| waits.forced).unwrap_or_default();
        let first = kinds.into_iter().map(|ino| (ino, forced(ino).kind)).collect::<Due>();
        let then = contents.into_iter().map(|ino| (ino, forced(ino).content)).collect::<Due>();
        for (ino, _) in &first {
            if let Some(waits) = self.files.get_mut(ino) {
                waits.kind = None;
                waits.forced.kind = false;
            }
        }
        for (ino, _) in &then {
            self.forget(*ino);
        }
        (first, then)
    }

    /// When something is due; none: nothing waits.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let first = |set: &BTreeSet<(Instant, Ino)>| set.first().map(|(at, _)| *at);
        [first(&self.kinds), first(&self.contents)].into_iter().flatten().min()
    }
}

fn take(set: &mut BTreeSet<(Instant, Ino)>, now: Instant, most: usize) -> Vec<Ino> {
    let mut taken = Vec::new();
    while taken.len() < most
        && let Some((at, ino)) = set.first().copied()
        && at <= now
    {
        set.pop_first();
        taken.push(ino);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::{CONTENT_AFTER, KIND_AFTER, Queue};
    use dgfs_proto::ids::Ino;
    use tokio::time::Instant;

    #[test]
    fn a_file_is_looked_at_once_it_was_left_alone() {
        let (mut queue, start, ino) = (Queue::default(), Instant::now(), Ino::new(7).unwrap());
        queue.changed(ino, start);
        assert_eq!(queue.take_due(start, (9, 9)), (vec![], vec![]));
        assert_eq!(queue.next_due(), Some(start + KIND_AFTER));
        assert_eq!(queue.take_due(start + KIND_AFTER, (9, 9)), (vec![(ino, false)], vec![]));
        queue.changed(ino, start + KIND_AFTER);
        let later = start + CONTENT_AFTER;
        assert_eq!(queue.take_due(later, (9, 9)), (vec![(ino, false)], vec![]), "it changed since");
        assert_eq!(queue.take_due(later + KIND_AFTER, (9, 9)), (vec![], vec![(ino, false)]));
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }

    #[test]
    fn what_is_gone_is_not_looked_at_and_what_is_forced_says_so() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let (gone, forced) = (Ino::new(7).unwrap(), Ino::new(8).unwrap());
        queue.changed(gone, start);
        queue.force(forced, start);
        queue.changed(forced, start);
        queue.forget(gone);
        assert_eq!(queue.take_due(start + CONTENT_AFTER, (9, 9)), (vec![(forced, true)], vec![(forced, true)]));
    }

    /// It was looked at for ever: each answer was a change, which was due again by force before its content was.
    #[test]
    fn what_is_forced_is_forced_once() {
        let (mut queue, start, ino) = (Queue::default(), Instant::now(), Ino::new(7).unwrap());
        queue.force(ino, start);
        let mut now = start + KIND_AFTER;
        assert_eq!(queue.take_due(now, (9, 9)), (vec![(ino, true)], vec![]));
        queue.changed(ino, now);
        now += KIND_AFTER;
        assert_eq!(queue.take_due(now, (9, 9)), (vec![(ino, false)], vec![]), "its kind was told");
        now += CONTENT_AFTER;
        assert_eq!(queue.take_due(now, (9, 9)), (vec![], vec![(ino, true)]));
        queue.changed(ino, now);
        now += CONTENT_AFTER;
        assert_eq!(queue.take_due(now, (9, 9)), (vec![(ino, false)], vec![(ino, false)]), "so was its content");
        assert_eq!((queue.len(), queue.next_due()), (0, None));
    }
}
