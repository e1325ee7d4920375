//! Numbers mutations and remembers which answers have arrived.
//!
//! Never sends. Always: numbers grow by one from 1; `acked` never passes an answer that is still awaited.

use std::collections::VecDeque;

use parking_lot::Mutex;

use dgfs_proto::ids::OpId;

/// The window of mutations whose answers are awaited.
#[derive(Debug, Default)]
pub(crate) struct OpWindow {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// Answers up to this number have arrived.
    acked: u64,
    /// One flag for each number after `acked`: its answer has arrived.
    arrived: VecDeque<bool>,
}

impl OpWindow {
    /// The next number.
    pub(crate) fn begin(&self) -> OpId {
        let mut window = self.window.lock();
        window.arrived.push_back(false);
        OpId(window.acked + window.arrived.len() as u64)
    }

    /// All answers up to this one have arrived.
    pub(crate) fn acked(&self) -> OpId {
        OpId(self.window.lock().acked)
    }

    /// The answer of `op` has arrived (or nobody waits for it any more).
    pub(crate) fn finish(&self, op: OpId) {
        let mut window = self.window.lock();
        let Some(at) = op.0.checked_sub(window.acked + 1) else { return };
        if let Some(flag) = usize::try_from(at).ok().and_then(|at| window.arrived.get_mut(at)) {
            *flag = true;
        }
        while window.arrived.front() == Some(&true) {
            window.arrived.pop_front();
            window.acked += 1;
        }
    }

    /// Numbers given out past `acked`.
    pub(crate) fn span(&self) -> usize {
        self.window.lock().arrived.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acked_waits_for_the_oldest_answer() {
        let window = OpWindow::default();
        let first = window.begin();
        let second = window.begin();
        assert_eq!((first, second), (OpId(1), OpId(2)));
        window.finish(second);
        assert_eq!((window.begin(), window.acked()), (OpId(3), OpId(0)));
        window.finish(first);
        assert_eq!((window.begin(), window.acked()), (OpId(4), OpId(2)));
        assert_eq!(window.span(), 2);
    }
}
