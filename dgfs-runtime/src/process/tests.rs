//! What a process says of itself.

use crate::channel::Role;
use crate::metrics::MetricSet;
use crate::process::register;
use crate::quic::tests::support::{authority, identity};

fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[tokio::test]
async fn a_process_says_what_it_is_and_takes() {
    let (set, identity) = (MetricSet::new(), identity(&authority(), Role::Stored));
    register(&set, "stored", Some(&identity));
    let text = set.render().unwrap();
    let build = format!("dgfs_build_info{{part=\"stored\",version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, &build), 1.0);
    let until = value(&text, "dgfs_certificate_expiry_timestamp_seconds");
    assert_eq!(until as i64, identity.valid_until_s());
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = value(&text, "process_start_time_seconds");
    assert!(started > 1.6e9 && started < now_s + 60.0, "{started}");
    assert!(value(&text, "process_resident_memory_bytes") > 1e6);
    assert!(value(&text, "process_virtual_memory_bytes") > value(&text, "process_resident_memory_bytes"));
    assert!(value(&text, "process_open_fds") >= 3.0);
    assert!(value(&text, "process_max_fds") > value(&text, "process_open_fds"));
    assert!(value(&text, "process_threads") >= 1.0);
    assert!(value(&text, "process_cpu_seconds_total") >= 0.0);
}

#[tokio::test]
async fn descriptors_are_counted_as_they_are_opened() {
    let set = MetricSet::new();
    register(&set, "mount", None);
    let before = value(&set.render().unwrap(), "process_open_fds");
    let held: Vec<_> = (0..200).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let after = value(&set.render().unwrap(), "process_open_fds");
    // Other tests of this process open and close some, too.
    assert!(after > before + 50.0, "{before} then {after}");
    drop(held);
    assert!(!set.render().unwrap().contains("dgfs_certificate_expiry"), "it has no certificate");
}

#[tokio::test]
async fn the_lag_is_probed_and_tasks_are_counted() {
    let set = MetricSet::new();
    register(&set, "meta", None);
    // The probe itself is the only task here.
    assert_eq!(value(&set.render().unwrap(), "dgfs_runtime_tasks"), 1.0);
    while value(&set.render().unwrap(), "dgfs_runtime_lag_seconds_count") < 2.0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_blocked_runtime_shows_as_lag() {
    let set = MetricSet::new();
    register(&set, "meta", None);
    tokio::task::yield_now().await;
    // The fault that the metric is for: a thread of the runtime that is held.
    std::thread::sleep(std::time::Duration::from_millis(900));
    while value(&set.render().unwrap(), "dgfs_runtime_lag_seconds_count") < 1.0 {
        tokio::task::yield_now().await;
    }
    assert!(value(&set.render().unwrap(), "dgfs_runtime_lag_seconds_sum") > 0.5);
}
