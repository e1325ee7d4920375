//! What the client library counts, for Prometheus: round trips by kind, unsent bytes, caches.
//!
//! Never counts itself: `Vfs` does; its numbers are read when they are asked for.

use std::sync::{Arc, Weak};

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

use dgfs_client::vfs::Vfs;
use dgfs_runtime::metrics::{MetricSet, follow, show};

/// Calls to the metadata service, by kind.
pub const META_CALLS: &str = "dgfs_client_meta_calls_total";
/// Calls to storage servers, by kind.
pub const CHUNK_CALLS: &str = "dgfs_client_chunk_calls_total";

struct Numbers {
    meta: IntCounterVec,
    chunk: IntCounterVec,
    chunk_errors: IntCounterVec,
    dirty_limit: IntGauge,
    cache: IntGauge,
    cache_limit: IntGauge,
    cache_misses: IntCounter,
    disk_cache: IntGauge,
    meta_silent: Gauge,
    session_ended: IntGauge,
    dirty_bytes: IntGauge,
    writes_waited: IntCounter,
    conflicts: IntCounter,
    resumes: IntCounter,
    write_errors: IntCounter,
    cache_hits: IntCounter,
    disk_cache_hits: IntCounter,
    disk_cache_damaged: IntCounter,
    kept_back: IntCounter,
    kept_refused: IntCounter,
    kept_otherwise: IntCounter,
    kept_waiting: IntGauge,
}

/// Registers the client's numbers; they are current whenever they are rendered.
pub fn register(set: &MetricSet, vfs: &Arc<Vfs>) {
    let times = vfs.call_times();
    set.adopt(&times.meta);
    set.adopt(&times.chunk);
    let numbers = Numbers {
        chunk_errors: set.counters(
            "dgfs_client_chunk_errors_total",
            "Calls to storage servers that were not answered, or with a refusal, by kind",
            &["kind"],
        ),
        dirty_limit: set.gauge("dgfs_client_dirty_limit_bytes", "Bytes that may be written and not sent yet"),
        cache: set.gauge("dgfs_client_cache_bytes", "Bytes of chunk data in the memory cache"),
        cache_limit: set.gauge("dgfs_client_cache_limit_bytes", "Bytes the memory cache may take"),
        cache_misses: set.counter("dgfs_client_cache_misses_total", "Reads of blocks that the memory cache had not"),
        disk_cache: set.gauge("dgfs_client_disk_cache_bytes", "Bytes of the cache on the local disk, about"),
        meta_silent: set.real(
            "dgfs_client_meta_silent_seconds",
            "Seconds since the call was sent that the metadata service answered last; 0 when the session was ended",
        ),
        session_ended: set.gauge(
            "dgfs_client_session_ended",
            "1: the metadata service has ended the session, nothing works until it is mounted again",
        ),
        meta: set.counters(META_CALLS, "Calls to the metadata service, by kind", &["kind"]),
        chunk: set.counters(CHUNK_CALLS, "Calls to storage servers, by kind", &["kind"]),
        dirty_bytes: set.gauge("dgfs_client_dirty_bytes", "Bytes written and not sent yet"),
        writes_waited: set.counter("dgfs_client_writes_waited_total", "Writes that waited for room"),
        conflicts: set.counter("dgfs_client_conflicts_total", "Commits that were rebased on another writer's"),
        resumes: set.counter("dgfs_client_resumes_total", "Times the session was taken up again"),
        write_errors: set.counter("dgfs_client_write_errors_total", "Writes that failed after they were accepted"),
        cache_hits: set.counter("dgfs_client_cache_hits_total", "Reads answered from the memory cache"),
        disk_cache_hits: set
            .counter("dgfs_client_disk_cache_hits_total", "Blocks read from the cache on the local disk"),
        disk_cache_damaged: set.counter(
            "dgfs_client_disk_cache_damaged_total",
            "Blocks of the local cache that were damaged and fetched anew",
        ),
        kept_back: set.counter("dgfs_client_kept_back_total", "Changes made ahead of the metadata service"),
        kept_refused: set
            .counter("dgfs_client_kept_back_refused_total", "Changes told as done that were refused later"),
        kept_otherwise: set.counter(
            "dgfs_client_kept_back_otherwise_total",
            "Changes told as done that ended otherwise than they were told",
        ),
        kept_waiting: set.gauge("dgfs_client_kept_back", "Changes made ahead that wait for their answers"),
    };
    let vfs = Arc::downgrade(vfs);
    set.before_render(move || refresh(&numbers, &vfs));
}

fn refresh(numbers: &Numbers, vfs: &Weak<Vfs>) {
    let Some(vfs) = vfs.upgrade() else { return };
    let trips = vfs.round_trips();
    for (kind, calls) in &trips.meta {
        follow(&numbers.meta.with_label_values(&[kind.text()]), *calls);
    }
    for (kind, calls) in &trips.chunk {
        follow(&numbers.chunk.with_label_values(&[kind.text()]), *calls);
    }
    for (kind, calls) in &trips.chunk_errors {
        follow(&numbers.chunk_errors.with_label_values(&[kind.text()]), *calls);
    }
    let now = vfs.numbers();
    show(&numbers.dirty_limit, now.dirty_limit_bytes);
    show(&numbers.cache, now.cache_bytes);
    show(&numbers.cache_limit, now.cache_limit_bytes);
    show(&numbers.disk_cache, now.disk_cache_bytes);
    follow(&numbers.cache_misses, now.cache_misses);
    show(&numbers.session_ended, u64::from(vfs.is_fenced()));
    numbers.meta_silent.set(now.meta_silent_ms as f64 / 1000.0);
    show(&numbers.dirty_bytes, now.dirty_bytes);
    follow(&numbers.writes_waited, now.writes_waited);
    follow(&numbers.conflicts, now.conflicts);
    follow(&numbers.resumes, now.resumes);
    follow(&numbers.write_errors, now.write_errors);
    follow(&numbers.cache_hits, now.cache_hits);
    follow(&numbers.disk_cache_hits, now.disk_cache_hits);
    follow(&numbers.disk_cache_damaged, now.disk_cache_damaged);
    follow(&numbers.kept_back, now.kept_back);
    follow(&numbers.kept_refused, now.kept_refused);
    follow(&numbers.kept_otherwise, now.kept_otherwise);
    show(&numbers.kept_waiting, now.kept_waiting);
}
