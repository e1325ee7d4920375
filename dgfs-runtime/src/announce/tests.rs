//! Announcements reach the active service, and the clock's offset is what it is.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::meta::{MetaCall, MetaReply, MetaRequest, ProcessKind, WatchReply, WatchRequest};
use dgfs_proto::status::Status;

use super::{Announcer, ClockOffset, announcement, cut};
use crate::channel::{Handler, LocalChannel, MetaProtocol, Peer, Role};
use crate::metrics::MetricSet;

/// A metadata service that hears announcements, or is a standby.
struct Meta {
    active: bool,
    heard: Mutex<Vec<WatchRequest>>,
    more: Notify,
}

impl Handler<MetaProtocol> for Meta {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            let MetaRequest::Watch(request) = call.request else { panic!("another request") };
            self.heard.lock().push(request);
            self.more.notify_one();
            let time = Timestamp { secs: 5, nanos: 0 };
            let reply = if self.active {
                MetaReply::Watch(WatchReply::Heard { time })
            } else {
                MetaReply::Refused(Status::NotActive)
            };
            (reply, Bytes::new())
        })
    }
}

fn meta(active: bool) -> Arc<Meta> {
    Arc::new(Meta { active, heard: Mutex::default(), more: Notify::new() })
}

#[tokio::test]
async fn the_active_service_hears_who_is_there_and_who_leaves() {
    let (standby, active) = (meta(false), meta(true));
    let metas = [Arc::clone(&standby), Arc::clone(&active)];
    let channels = metas.map(|meta| Arc::new(LocalChannel::<MetaProtocol>::new(meta, Role::Client)) as Arc<_>);
    let who = announcement(ProcessKind::Mount, "/mnt", Some("127.0.0.1:9".to_owned()));
    let offset = ClockOffset::default();
    let announcer = Announcer::start(channels.to_vec(), who.clone(), offset.clone());
    active.more.notified().await;
    announcer.leave().await;
    let heard = active.heard.lock().clone();
    assert_eq!(heard.first(), Some(&WatchRequest::Announce(who.clone())));
    assert_eq!(heard.last(), Some(&WatchRequest::Leave { instance: who.instance }));
    assert!(!standby.heard.lock().is_empty(), "the first one is asked first");
    assert!(offset.seconds().is_some_and(|ahead| ahead > 1e9), "meta's clock stands in 1970");
}

#[test]
fn half_the_round_trip_is_taken_off() {
    let offset = ClockOffset::default();
    assert_eq!(offset.seconds(), None);
    offset.learn((10_000_000_000, 10_500_000_000), Timestamp { secs: 10, nanos: 0 });
    assert_eq!(offset.seconds(), Some(0.25));
    // Too slow, and a clock that went back: nothing is learnt.
    offset.learn((10_000_000_000, 12_000_000_000), Timestamp { secs: 1, nanos: 0 });
    offset.learn((10_000_000_000, 9_000_000_000), Timestamp { secs: 1, nanos: 0 });
    assert_eq!(offset.seconds(), Some(0.25));
    offset.learn((0, 0), Timestamp { secs: i64::MAX, nanos: 0 });
    assert!(offset.seconds().is_some_and(|ahead| ahead < -1e9), "a mad clock is far away, not nowhere");
}

#[test]
fn an_offset_that_is_not_known_is_not_shown() {
    let (set, offset) = (MetricSet::new(), ClockOffset::default());
    offset.register(&set);
    assert!(!set.render().unwrap().contains("dgfs_clock_offset_seconds"));
    offset.set(-1_500_000_000);
    assert!(set.render().unwrap().contains("dgfs_clock_offset_seconds -1.5\n"));
}

#[test]
fn words_are_cut_between_characters() {
    assert_eq!(cut("aä", 2), "a");
    assert_eq!(cut("aä", 3), "aä");
    assert!(announcement(ProcessKind::Stored, &"ä".repeat(400), None).is_bounded());
}
