//! Time, so that a test can hold it: wall clock and monotonic time.
//!
//! Never sleeps and never decides anything. Always: monotonic time does not
//! go back, also when the wall clock is set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells the time.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Real { start: Instant },
    Manual(Arc<ManualClock>),
}

impl Clock {
    /// The clock of the operating system; monotonic time starts near 0 here.
    #[must_use]
    pub fn real() -> Self {
        Self { source: Source::Real { start: Instant::now() } }
    }

    /// A clock that stands still until its [`ManualClock`] is moved.
    #[must_use]
    pub fn manual(manual: &Arc<ManualClock>) -> Self {
        Self { source: Source::Manual(Arc::clone(manual)) }
    }

    /// Nanoseconds since 1970 by the wall clock: for timestamps that people see. May go back.
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        match &self.source {
            Source::Real { .. } => wall_ns_of_system(),
            Source::Manual(manual) => manual.wall_ns.load(Ordering::Acquire),
        }
    }

    /// Milliseconds since 1970 by the wall clock.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ns() / 1_000_000
    }

    /// Time since some moment of this process: for leases and time-outs. Never goes back.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.source {
            Source::Real { start } => start.elapsed(),
            Source::Manual(manual) => Duration::from_nanos(manual.monotonic_ns.load(Ordering::Acquire)),
        }
    }

    /// [`Self::monotonic`] in whole milliseconds.
    #[must_use]
    pub fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Seconds since 1970 as an ISO 8601 time in UTC, by the civil calendar (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
#[must_use]
pub fn utc_seconds_text(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// The same of microseconds since 1970, with them.
#[must_use]
pub fn utc_text(micros: u64) -> String {
    let whole = utc_seconds_text(i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX / 2));
    format!("{}.{:06}Z", whole.trim_end_matches('Z'), micros % 1_000_000)
}

/// The hand that moves a manual clock.
#[derive(Debug)]
pub struct ManualClock {
    wall_ns: AtomicU64,
    monotonic_ns: AtomicU64,
}

impl ManualClock {
    /// Starts at `wall_ns` since 1970, with monotonic time 0.
    #[must_use]
    pub fn starting_at(wall_ns: u64) -> Arc<Self> {
        Arc::new(Self { wall_ns: AtomicU64::new(wall_ns), monotonic_ns: AtomicU64::new(0) })
    }

    /// Lets `step` pass on both clocks.
    pub fn advance(&self, step: Duration) {
        let step_ns = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        self.wall_ns.fetch_add(step_ns, Ordering::AcqRel);
        self.monotonic_ns.fetch_add(step_ns, Ordering::AcqRel);
    }

    /// Sets the wall clock, as an administrator would; monotonic time does not notice.
    pub fn set_wall_ns(&self, wall_ns: u64) {
        self.wall_ns.store(wall_ns, Ordering::Release);
    }
}

fn wall_ns_of_system() -> u64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        // A wall clock before 1970 is a host without a battery: 0 is as good as any.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, ManualClock};
    use std::time::Duration;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let hand = ManualClock::starting_at(5_000_000);
        let clock = Clock::manual(&hand);
        assert_eq!((clock.wall_ns(), clock.monotonic_ms()), (5_000_000, 0));
        hand.advance(Duration::from_millis(7));
        assert_eq!((clock.wall_ms(), clock.monotonic_ms()), (12, 7));
    }

    #[test]
    fn setting_the_wall_clock_back_leaves_monotonic_time_alone() {
        let hand = ManualClock::starting_at(5_000_000);
        let clock = Clock::manual(&hand);
        hand.advance(Duration::from_millis(7));
        hand.set_wall_ns(1);
        assert_eq!((clock.wall_ns(), clock.monotonic_ms()), (1, 7));
    }

    #[test]
    fn real_clock_is_after_2020_and_monotonic() {
        let clock = Clock::real();
        assert!(clock.wall_ms() > 1_577_836_800_000);
        let earlier = clock.monotonic();
        assert!(clock.monotonic() >= earlier);
    }
}
