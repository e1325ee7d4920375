//! How old the oldest request is that has no answer yet.
//!
//! Never knows what a request is. Always: what entered leaves, also when its future is dropped.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Requests that wait, by their order. As many as the dispatcher lets wait.
#[derive(Debug, Default)]
pub struct Oldest {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// A request that waits, until it is dropped.
#[derive(Debug)]
pub struct Entered {
    oldest: Arc<Oldest>,
    number: u64,
}

impl Oldest {
    /// A request waits from now on.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Entered {
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, Instant::now());
        Entered { oldest: Arc::clone(self), number }
    }

    /// Since when the oldest waits; zero when none does.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.waiting.lock().since.values().next().map_or(Duration::ZERO, Instant::elapsed)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.oldest.waiting.lock().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::Oldest;

    #[test]
    fn the_oldest_counts_until_it_is_answered() {
        let oldest = Arc::<Oldest>::default();
        assert_eq!(oldest.age(), Duration::ZERO);
        let first = oldest.enter();
        let second = oldest.enter();
        let age = oldest.age();
        drop(second);
        assert!(oldest.age() >= age);
        drop(first);
        assert_eq!(oldest.age(), Duration::ZERO);
    }
}
