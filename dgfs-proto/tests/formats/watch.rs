//! One value of every message about the cluster itself.
//!
//! The names are found by exhaustive matches, as in `values`.

use dgfs_proto::ids::ServerId;
use dgfs_proto::meta::{
    Announce, ClusterEvent, EventKind, MemberStatus, MetaReply, ProcessKind, WatchReply, WatchRequest,
};

use crate::values::time;

pub(crate) fn request_name(request: &WatchRequest) -> &'static str {
    match request {
        WatchRequest::Announce(_) => "watch-announce",
        WatchRequest::Leave { .. } => "watch-leave",
        WatchRequest::Members { .. } => "watch-members",
        WatchRequest::Events { .. } => "watch-events",
    }
}

fn announce(kind: ProcessKind) -> Announce {
    Announce {
        instance: u64::MAX,
        kind,
        host: "h".to_owned(),
        pid: 70_000,
        name: "stored-1".to_owned(),
        version: "0.1.0".to_owned(),
        metrics: "127.0.0.1:9521".to_owned(),
        started: time(1_700_000_000),
        server: (kind == ProcessKind::Stored).then_some(ServerId(2)),
    }
}

/// Every question about the cluster.
pub(crate) fn requests() -> Vec<WatchRequest> {
    let mut all: Vec<WatchRequest> =
        ProcessKind::ALL.into_iter().map(|kind| WatchRequest::Announce(announce(kind))).collect();
    all.push(WatchRequest::Leave { instance: 1 << 63 });
    all.push(WatchRequest::Members { after: None, limit: 1024 });
    all.push(WatchRequest::Members { after: Some(7), limit: 1 });
    all.push(WatchRequest::Events { after: 1 << 40, limit: 1024, wait: true });
    all
}

pub(crate) fn reply_name(reply: &WatchReply) -> &'static str {
    match reply {
        WatchReply::Heard { .. } => "watch-heard",
        WatchReply::Members(_) => "watch-members",
        WatchReply::Events { .. } => "watch-events",
    }
}

fn event((number, kind): (u64, EventKind)) -> ClusterEvent {
    ClusterEvent { number, at: time(1_700_000_000), kind, subject: "stored-1".to_owned(), text: "it is so".to_owned() }
}

/// Every answer about the cluster.
pub(crate) fn replies() -> Vec<MetaReply> {
    let member = MemberStatus { who: announce(ProcessKind::Stored), silent_ms: 70_000 };
    let all = [
        WatchReply::Heard { time: time(1 << 33) },
        WatchReply::Members(vec![member]),
        WatchReply::Events { events: (1..).zip(EventKind::ALL).map(event).collect(), first: 1, head: 1 << 40 },
    ];
    all.into_iter().map(MetaReply::Watch).collect()
}

#[test]
fn every_kind_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<&str> = EventKind::ALL.into_iter().map(EventKind::name).collect();
    assert_eq!(words.len(), EventKind::ALL.len());
}

#[test]
fn a_long_word_is_no_announcement() {
    let mut said = announce(ProcessKind::Mount);
    assert!(said.is_bounded());
    said.name = "n".repeat(256);
    assert!(!said.is_bounded());
    said.name.clear();
    said.metrics = "m".repeat(65);
    assert!(!said.is_bounded());
}
