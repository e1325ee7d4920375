//! Events of the cluster on their way to the engine.
//!
//! Never in the way of a change: whoever notes one goes on at once. Always bounded: at most [`QUEUE_MAX`] wait; what comes
//! beyond is counted, and the count is an event of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::limits::{EVENT_SUBJECT_BYTES_MAX, EVENT_TEXT_BYTES_MAX};
use dgfs_proto::meta::{ClusterEvent, EventKind};
use dgfs_runtime::announce::cut;

use crate::rows::JournalRow;

/// Events that wait for the engine: minutes of the worst that was seen.
const QUEUE_MAX: usize = 4_096;
/// Events in one batch.
pub(crate) const BATCH_MAX: usize = 512;

/// What happened and is not written yet, and what is there.
#[derive(Debug)]
pub(crate) struct Journal {
    queue: Mutex<VecDeque<ClusterEvent>>,
    dropped: AtomicU64,
    /// By kind, in the order of [`EventKind::ALL`].
    counts: Vec<AtomicU64>,
    /// What the engine holds.
    kept: Mutex<JournalRow>,
    /// Rings when events were written.
    pub(crate) grew: Notify,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            dropped: AtomicU64::new(0),
            counts: EventKind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            kept: Mutex::default(),
            grew: Notify::new(),
        }
    }
}

impl Journal {
    /// Something happened.
    pub(crate) fn note(&self, at: Timestamp, kind: EventKind, subject: &str, text: &str) {
        self.count(kind);
        let event = ClusterEvent {
            number: 0,
            at,
            kind,
            subject: cut(subject, EVENT_SUBJECT_BYTES_MAX),
            text: cut(text, EVENT_TEXT_BYTES_MAX),
        };
        let mut queue = self.queue.lock();
        if queue.len() < QUEUE_MAX {
            queue.push_back(event);
        } else {
            self.dropped.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn count(&self, kind: EventKind) {
        let at = EventKind::ALL.iter().position(|known| *known == kind);
        if let Some(count) = at.and_then(|at| self.counts.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were of each kind since the process started.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (EventKind, u64)> {
        EventKind::ALL.into_iter().zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// The next ones to be written, at most [`BATCH_MAX`]; [`Self::put_back`] them if they could not be.
    pub(crate) fn take(&self, now: Timestamp) -> Vec<ClusterEvent> {
        let dropped = self.dropped.swap(0, Ordering::AcqRel);
        if dropped > 0 {
            self.count(EventKind::EventsDropped);
            let text = format!("{dropped} events came faster than they could be written, and are not here");
            let event =
                ClusterEvent { number: 0, at: now, kind: EventKind::EventsDropped, subject: String::new(), text };
            self.queue.lock().push_back(event);
        }
        let mut queue = self.queue.lock();
        let count = queue.len().min(BATCH_MAX);
        queue.drain(..count).collect()
    }

    /// The engine had no room for them.
    pub(crate) fn put_back(&self, events: Vec<ClusterEvent>) {
        let mut queue = self.queue.lock();
        for event in events.into_iter().rev() {
            queue.push_front(event);
        }
        while queue.len() > QUEUE_MAX {
            queue.pop_back();
            self.dropped.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The engine holds these.
    pub(crate) fn written(&self, kept: JournalRow) {
        *self.kept.lock() = kept;
        self.grew.notify_waiters();
    }

    /// Which ones the engine holds.
    pub(crate) fn kept(&self) -> JournalRow {
        *self.kept.lock()
    }
}

#[cfg(test)]
mod tests {
    use dgfs_proto::attr::Timestamp;
    use dgfs_proto::meta::EventKind;

    use super::{BATCH_MAX, Journal, QUEUE_MAX};

    const NOW: Timestamp = Timestamp::from_ms(1_000);

    #[test]
    fn events_beyond_the_queue_are_counted_and_told() {
        let journal = Journal::default();
        for _ in 0..QUEUE_MAX + 3 {
            journal.note(NOW, EventKind::ServerUp, "s", "up");
        }
        let mut all = Vec::new();
        loop {
            let taken = journal.take(NOW);
            if taken.is_empty() {
                break;
            }
            assert!(taken.len() <= BATCH_MAX);
            all.extend(taken);
        }
        assert_eq!(all.len(), QUEUE_MAX + 1);
        let told = all.last().unwrap();
        assert_eq!((told.kind, told.text.starts_with("3 events")), (EventKind::EventsDropped, true));
        let ups = journal.counts().find(|(kind, _)| *kind == EventKind::ServerUp).unwrap();
        assert_eq!(ups.1, QUEUE_MAX as u64 + 3, "also those that were dropped are counted");
    }

    #[test]
    fn what_could_not_be_written_comes_first_the_next_time() {
        let journal = Journal::default();
        journal.note(NOW, EventKind::ServerDown, "a", "");
        let taken = journal.take(NOW);
        journal.note(NOW, EventKind::ServerUp, "a", "");
        journal.put_back(taken);
        let kinds: Vec<EventKind> = journal.take(NOW).into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [EventKind::ServerDown, EventKind::ServerUp]);
    }

    #[test]
    fn long_words_are_cut() {
        let journal = Journal::default();
        journal.note(NOW, EventKind::AlertRaised, &"ä".repeat(200), &"x".repeat(5_000));
        let event = journal.take(NOW).remove(0);
        assert_eq!((event.subject.len(), event.text.len()), (128, 512));
    }
}
