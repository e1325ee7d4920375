//! Which files are due to be looked at, and when.
//!
//! Never holds more than [`FILES_MAX`] files: then no more changes are taken from the index before some were looked at.
//! Always: a file is looked at only after it was left alone for a moment, what changed last waits behind no backlog, and what is
//! oldest behind no stream of changes.

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
/// A look that ended by the clock or by the death of its worker says as much of the machine as of the file: it is tried again when a
/// busy moment may be over, once more when a busy while may be, and then no more.
const TRIED_AGAIN_AFTER: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(300)];
/// Files that wait for another try at most; beyond, one that failed stays so until somebody asks for it. Their memory stays below 2 MiB.
const RETRIES_MAX: usize = 10_000;

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

/// How often a file was tried again, and when it is the next time.
#[derive(Clone, Copy)]
struct Retry {
    tries: usize,
    at: Instant,
}

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    files: BTreeMap<Ino, Waits>,
    kinds: BTreeSet<(Instant, Ino)>,
    contents: BTreeSet<(Instant, Ino)>,
    retries: BTreeMap<Ino, Retry>,
    retried: BTreeSet<(Instant, Ino)>,
    newest_first: bool,
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

    /// Files that are tried again later.
    pub(super) fn retries(&self) -> usize {
        self.retried.len()
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

    /// A look at it failed for a reason that may pass. Whether it is tried again.
    pub(super) fn failed_in_passing(&mut self, ino: Ino, now: Instant) -> bool {
        let tries = self.retries.get(&ino).map_or(0, |retry| retry.tries);
        self.settled(ino);
        let Some(after) = TRIED_AGAIN_AFTER.get(tries).filter(|_| self.retries.len() < RETRIES_MAX) else {
            return false;
        };
        let retry = Retry { tries: tries + 1, at: now + *after };
        self.retried.insert((retry.at, ino));
        self.retries.insert(ino, retry);
        true
    }

    /// It was looked at, with success or with a failure that stays.
    pub(super) fn settled(&mut self, ino: Ino) {
        if let Some(retry) = self.retries.remove(&ino) {
            self.retried.remove(&(retry.at, ino));
        }
    }

    /// A file is gone.
    pub(super) fn gone(&mut self, ino: Ino) {
        self.forget(ino);
        self.settled(ino);
    }

    fn forget(&mut self, ino: Ino) {
        if let Some(waits) = self.files.remove(&ino) {
            waits.kind.map(|at| self.kinds.remove(&(at, ino)));
            waits.content.map(|at| self.contents.remove(&(at, ino)));
        }
    }

    /// Those whose kind, and those whose content is due, at most so many of each.
    pub(super) fn take_due(&mut self, now: Instant, (kinds_max, contents_max): (usize, usize)) -> (Due, Due) {
        // One worker takes one file at a time: the ends take turns from one call to the next.
        self.newest_first = !self.newest_first;
        let kinds = take(&mut self.kinds, now, kinds_max, self.newest_first);
        let again = oldest(&mut self.retried, now).filter(|_| contents_max > 0);
        if let Some(ino) = again {
            self.forget(ino);
        }
        let contents = take(&mut self.contents, now, contents_max - usize::from(again.is_some()), self.newest_first);
        let forced = |ino: Ino| self.files.get(&ino).map(|waits| waits.forced).unwrap_or_default();
        let first = kinds.into_iter().map(|ino| (ino, forced(ino).kind)).collect::<Due>();
        let mut then = contents.into_iter().map(|ino| (ino, forced(ino).content)).collect::<Due>();
        then.extend(again.map(|ino| (ino, true)));
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
        [first(&self.kinds), first(&self.contents), first(&self.retried)].into_iter().flatten().min()
    }
}

/// Alternately the one that waits longest and the one that is due since shortest, at most so many.
fn take(set: &mut BTreeSet<(Instant, Ino)>, now: Instant, most: usize, newest_first: bool) -> Vec<Ino> {
    let mut taken = Vec::new();
    let mut takes_newest = newest_first;
    while taken.len() < most {
        let found = if takes_newest { newest(set, now) } else { oldest(set, now) };
        let Some(ino) = found else { break };
        taken.push(ino);
        takes_newest = !takes_newest;
    }
    taken
}

fn oldest(set: &mut BTreeSet<(Instant, Ino)>, now: Instant) -> Option<Ino> {
    let first = set.first().copied().filter(|(at, _)| *at <= now)?;
    set.remove(&first);
    Some(first.1)
}

fn newest(set: &mut BTreeSet<(Instant, Ino)>, now: Instant) -> Option<Ino> {
    // No inode is before the root.
    let last = set.range(..(now + Duration::from_nanos(1), Ino::ROOT)).next_back().copied()?;
    set.remove(&last);
    Some(last.1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CONTENT_AFTER, KIND_AFTER, Queue, TRIED_AGAIN_AFTER};
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
        queue.gone(gone);
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
    /// A file that was written last waited behind thousands that were there before.
    #[test]
    fn the_oldest_and_the_newest_file_take_turns() {
        let (mut queue, start) = (Queue::default(), Instant::now());
        let ino = |number| Ino::new(number).unwrap();
        for number in 1..=6 {
            queue.changed(ino(number), start + Duration::from_millis(number));
        }
        let later = start + CONTENT_AFTER + Duration::from_millis(5);
        let mut one = || queue.take_due(later, (0, 1)).1.first().map(|(ino, _)| ino.get());
        let mut taken = [one(), one(), one(), one()];
        taken.sort();
        assert_eq!(taken, [1, 2, 4, 5].map(Some), "two from each end; the sixth is not due");
        assert_eq!((one(), one()), (Some(3), None));
        let sixth = vec![(ino(6), false)];
        assert_eq!(queue.take_due(later + CONTENT_AFTER, (9, 9)), (sixth.clone(), sixth));
    }

    /// Good files stayed failed after one slow moment.
    #[test]
    fn what_failed_in_passing_is_tried_twice_more_and_then_no_more() {
        let (mut queue, mut now, ino) = (Queue::default(), Instant::now(), Ino::new(7).unwrap());
        for after in TRIED_AGAIN_AFTER {
            assert!(queue.failed_in_passing(ino, now));
            // That it failed is kept, which is a change.
            queue.changed(ino, now);
            let early = now + after - Duration::from_millis(1);
            assert_eq!(queue.take_due(early, (9, 9)), (vec![(ino, false)], vec![(ino, false)]));
            assert_eq!((queue.next_due(), queue.retries()), (Some(now + after), 1));
            now += after;
            assert_eq!(queue.take_due(now, (9, 9)), (vec![], vec![(ino, true)]), "whatever is known");
        }
        assert!(!queue.failed_in_passing(ino, now));
        assert_eq!((queue.next_due(), queue.retries()), (None, 0));
        assert!(queue.failed_in_passing(ino, now), "a later failure begins anew");
        queue.settled(ino);
        assert!(queue.failed_in_passing(ino, now));
        queue.gone(ino);
        assert_eq!((queue.next_due(), queue.retries()), (None, 0));
    }
}
