//! What the operating system says that this process takes, under the names
//! that Prometheus gives such numbers.
//!
//! Never fails: a number that `/proc` does not show is left out. The crate `prometheus` can do this, but shows
//! processor time in whole seconds, too coarse for a scrape every five.

use std::fs;

use crate::metrics::computed::{Family, FamilyKind, Samples};

const CPU: &str = "process_cpu_seconds_total";
const OPEN_FDS: &str = "process_open_fds";
const MAX_FDS: &str = "process_max_fds";
const VIRTUAL: &str = "process_virtual_memory_bytes";
const RESIDENT: &str = "process_resident_memory_bytes";
const THREADS: &str = "process_threads";
const START: &str = "process_start_time_seconds";

/// The fields of `/proc/self/stat` that follow the command's name, counted from 0 (proc(5) counts from 1, and from 3 here).
const FIELD_USER_TICKS: usize = 11;
const FIELD_SYSTEM_TICKS: usize = 12;
const FIELD_THREADS: usize = 17;
const FIELD_START_TICKS: usize = 19;
const FIELD_VIRTUAL_BYTES: usize = 20;
const FIELD_RESIDENT_PAGES: usize = 21;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: FamilyKind::Gauge, labels: &[] }
}

/// The metrics.
pub(super) static FAMILIES: [Family; 7] = [
    Family { name: CPU, help: "Processor time used, of all threads", kind: FamilyKind::Counter, labels: &[] },
    gauge(OPEN_FDS, "Open file descriptors"),
    gauge(MAX_FDS, "File descriptors that it may open"),
    gauge(VIRTUAL, "Address space"),
    gauge(RESIDENT, "Memory in use"),
    gauge(THREADS, "Threads"),
    gauge(START, "When it started, in seconds since 1970"),
];

/// Adds what is known at this moment.
pub(super) fn show(samples: &mut Samples) {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        show_stat(&stat, samples);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        samples.add(OPEN_FDS, &[], as_number(entries.count().saturating_sub(1) as u64));
    }
    if let Some(most) = descriptors_max() {
        samples.add(MAX_FDS, &[], as_number(most));
    }
}

fn show_stat(stat: &str, samples: &mut Samples) {
    // The command's name stands in parentheses and may hold anything, parentheses too.
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).map(as_number);
    let ticks = as_number(system_value(libc::_SC_CLK_TCK).unwrap_or(100).max(1));
    if let (Some(user), Some(system)) = (field(FIELD_USER_TICKS), field(FIELD_SYSTEM_TICKS)) {
        samples.add(CPU, &[], (user + system) / ticks);
    }
    if let Some(threads) = field(FIELD_THREADS) {
        samples.add(THREADS, &[], threads);
    }
    if let (Some(start), Some(boot)) = (field(FIELD_START_TICKS), boot_time_s()) {
        samples.add(START, &[], as_number(boot) + start / ticks);
    }
    if let Some(bytes) = field(FIELD_VIRTUAL_BYTES) {
        samples.add(VIRTUAL, &[], bytes);
    }
    if let (Some(pages), Some(page_bytes)) = (field(FIELD_RESIDENT_PAGES), system_value(libc::_SC_PAGESIZE)) {
        samples.add(RESIDENT, &[], pages * as_number(page_bytes));
    }
}

fn boot_time_s() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn system_value(name: libc::c_int) -> Option<u64> {
    // SAFETY: sysconf has no memory effects.
    u64::try_from(unsafe { libc::sysconf(name) }).ok()
}

fn descriptors_max() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is ours and of the type that the call fills.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit.rlim_cur)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn as_number(value: u64) -> f64 {
    value as f64
}
