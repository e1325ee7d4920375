//! What every process says of itself: what it is, what it takes, whether its
//! runtime keeps up, when its certificate ends, and whom it talks to.
//!
//! Never counts what a part does; the parts do. Always: one call of
//! [`register`] for each [`MetricSet`], whose numbers end with the set.

mod usage;

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::Histogram;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::metrics::{MetricSet, show};
use crate::pki::Identity;
use crate::quic::traffic;

/// How often the runtime is asked to be on time: rarely enough to cost nothing, often enough that a scrape of five
/// seconds sees twenty.
const LAG_PROBE_EVERY: Duration = Duration::from_millis(250);
/// Bounds of the lag in seconds: timers of the runtime are a millisecond late by construction; what is later than a
/// second is felt by everybody.
const LAG_BOUNDS_S: [f64; 8] = [0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Registers in `set` what the process says of itself as a `part` (`meta`, `stored`, `index`, `mount`), with the
/// identity that it shows to others (none: it has none). The runtime whose lag is shown is the current one.
///
/// # Panics
/// Outside of a tokio runtime, and when it was registered already.
pub fn register(set: &MetricSet, part: &str, identity: Option<&Identity>) {
    set.gauges("dgfs_build_info", "What runs here; always 1", &["version", "part"])
        .with_label_values(&[env!("CARGO_PKG_VERSION"), part])
        .set(1);
    if let Some(identity) = identity {
        let help = "When the certificate of this process ends, in seconds since 1970";
        set.gauge("dgfs_certificate_expiry_timestamp_seconds", help).set(identity.valid_until_s());
    }
    set.computed(&usage::FAMILIES, usage::show);
    traffic::register(set);
    watch_runtime(set);
}

fn watch_runtime(set: &MetricSet) {
    let runtime = Handle::current();
    let help = "How late a timer of the runtime fired: long means that something blocks its threads";
    let lag = Arc::new(set.histogram("dgfs_runtime_lag_seconds", help, &LAG_BOUNDS_S));
    runtime.spawn(probe_lag(Arc::downgrade(&lag)));
    let tasks = set.gauge("dgfs_runtime_tasks", "Tasks of the runtime that have not ended");
    set.before_render(move || {
        let _keeps_the_probe_running = &lag;
        show(&tasks, runtime.metrics().num_alive_tasks() as u64);
    });
}

/// Ends with the metric set.
async fn probe_lag(lag: Weak<Histogram>) {
    loop {
        let due = Instant::now() + LAG_PROBE_EVERY;
        tokio::time::sleep_until(due).await;
        let Some(lag) = lag.upgrade() else { return };
        lag.observe(due.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests;
