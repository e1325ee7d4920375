//! A server whose disk hangs does not beat, though its process could: others stand in for it, and who waits for it goes on.
//!
//! Never for a disk that is only slow. Always: once silent, until the disk has answered at once for a while, so that one that hangs
//! again and again does not come and go (decision 038).

/// Seconds that a call to the disk may wait before its server falls silent.
const HUNG_S: u64 = 10;
/// Seconds that no call may have waited longer than, in so many looks in a row, before it beats again.
const WELL_S: u64 = 1;
const WELL_LOOKS: u32 = 5;

/// Looks before each heartbeat.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    is_silent: bool,
    well: u32,
}

impl Silence {
    /// Is no heartbeat to be sent? `waiting_s` is for how long the disk has not answered its oldest call.
    pub(crate) fn holds(&mut self, waiting_s: u64) -> bool {
        self.well = if waiting_s <= WELL_S { self.well.saturating_add(1) } else { 0 };
        if !self.is_silent && waiting_s >= HUNG_S {
            self.is_silent = true;
            tracing::error!(
                waiting_s,
                "the disk does not answer: no heartbeats until it does, so that other servers stand in for this one"
            );
        } else if self.is_silent && self.well >= WELL_LOOKS {
            self.is_silent = false;
            tracing::warn!("the disk answers again; heartbeats go on");
        }
        self.is_silent
    }
}

#[cfg(test)]
mod tests {
    use super::{HUNG_S, Silence, WELL_LOOKS};

    #[test]
    fn a_slow_disk_never_silences_and_one_that_hangs_does_until_it_was_well_for_a_while() {
        let mut silence = Silence::default();
        assert!((0..HUNG_S).all(|waiting_s| !silence.holds(waiting_s)));
        assert!(silence.holds(HUNG_S) && silence.holds(HUNG_S + 1));
        // Well for a moment, and hung again, as a device whose commands run into their time.
        assert!((1..WELL_LOOKS).all(|_| silence.holds(0)) && silence.holds(2));
        assert!((1..WELL_LOOKS).all(|_| silence.holds(0)) && !silence.holds(0));
        assert!(!silence.holds(HUNG_S - 1), "it may be slow again");
    }
}
