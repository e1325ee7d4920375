//! Who is there, and what happened, as a whole service tells it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use dgfs_proto::class::Class;
use dgfs_proto::ids::{ServerId, Uuid};
use dgfs_proto::map::Labels;
use dgfs_proto::meta::AdminRequest;
use dgfs_proto::meta::{
    Announce, Caller, ClusterEvent, EventKind, MemberStatus, MetaCall, MetaReply, MetaRequest, ProcessKind,
    ServerCommand, ServerRequest, SessionRequest, WatchReply, WatchRequest,
};
use dgfs_proto::status::Status;
use dgfs_runtime::announce::announcement;
use dgfs_runtime::channel::{Handler as _, Peer, Role};
use dgfs_runtime::clock::Clock;
use dgfs_runtime::metrics::MetricSet;

use super::{Bench, PATIENCE};
use crate::engine::Engine;
use crate::engine::redis::{RedisDurability, RedisEngine};
use crate::engine::testing::RedisServer;
use crate::format::format_volume;
use crate::metrics::register;
use crate::service::{MEMORY_BYTES_DEFAULT, MetaOptions, MetaService, SERVER_GRACE_MS_DEFAULT};

async fn ask(service: &Arc<MetaService>, role: Role, request: MetaRequest) -> MetaReply {
    let peer = Arc::new(Peer { role, address: "test@127.0.0.1:1".to_owned(), local: false });
    let call = MetaCall { request_id: 1, session: None, request };
    Arc::clone(service).handle(peer, call, Bytes::new()).await.0
}

async fn watch(service: &Arc<MetaService>, role: Role, request: WatchRequest) -> MetaReply {
    ask(service, role, MetaRequest::Watch(request)).await
}

async fn events(service: &Arc<MetaService>, after: u64) -> Vec<ClusterEvent> {
    match watch(service, Role::Client, WatchRequest::Events { after, limit: 1000, wait: false }).await {
        MetaReply::Watch(WatchReply::Events { events, .. }) => events,
        other => panic!("{other:?}"),
    }
}

/// Waits until the journal has an event of this kind.
async fn until_told(service: &Arc<MetaService>, kind: EventKind) -> ClusterEvent {
    let end = Instant::now() + PATIENCE;
    loop {
        let all = events(service, 0).await;
        if let Some(event) = all.iter().find(|event| event.kind == kind) {
            return event.clone();
        }
        assert!(Instant::now() < end, "{kind:?} is not among {all:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn stored(metrics: &str) -> Announce {
    Announce { server: Some(ServerId(1)), ..announcement(ProcessKind::Stored, "nas", Some(metrics.to_owned())) }
}

fn join() -> MetaRequest {
    MetaRequest::Server(ServerRequest::Join {
        identity: Uuid([9; 16]),
        id: None,
        address: "127.0.0.1:2".to_owned(),
        label: "nas".to_owned(),
        labels: Labels::default(),
        disk: 0,
        capacity_bytes: 1 << 40,
        used_bytes: 0,
        free_bytes: 1 << 40,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_outlives_its_writer_and_numbers_go_on() {
    let bench = Bench::new(false).await;
    let opened = until_told(&bench.service, EventKind::SessionOpened).await;
    let active = until_told(&bench.service, EventKind::MetaActive).await;
    assert!(active.number == 1 && opened.number > active.number, "{active:?} {opened:?}");
    assert_eq!(bench.call(MetaRequest::Session(SessionRequest::Close)).await, MetaReply::Done);
    until_told(&bench.service, EventKind::SessionEnded).await;
    let before = events(&bench.service, 0).await;
    let bench = bench.taken_over().await;
    let end = Instant::now() + PATIENCE;
    while events(&bench.service, 0).await.iter().filter(|event| event.kind == EventKind::MetaActive).count() < 2 {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = events(&bench.service, 0).await;
    assert_eq!(after.get(..before.len()).unwrap(), before, "what was written stays as it was");
    assert!(after.iter().zip(1..).all(|(event, number)| event.number == number), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_engine_keeps_events_waiting_and_they_come_when_there_is_room() {
    let bench = Bench::new(false).await;
    until_told(&bench.service, EventKind::SessionOpened).await;
    let before = events(&bench.service, 0).await.len();
    bench.engine.full.store(true, Ordering::Release);
    assert!(bench.service.note(EventKind::AlertRaised, "DgfsDiskFull", "it is full"));
    let refused = bench.engine.refused.load(Ordering::Acquire);
    let end = Instant::now() + PATIENCE;
    while bench.engine.refused.load(Ordering::Acquire) == refused {
        assert!(Instant::now() < end, "the writer never tried");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(events(&bench.service, 0).await.len(), before);
    bench.engine.full.store(false, Ordering::Release);
    let event = until_told(&bench.service, EventKind::AlertRaised).await;
    assert_eq!(event.number, before as u64 + 1, "no number is left out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_server_that_is_silent_stays_listed_until_it_is_removed() {
    let bench = Bench::new(false).await;
    assert!(matches!(ask(&bench.service, Role::Stored, join()).await, MetaReply::Joined { .. }));
    let heard = watch(&bench.service, Role::Stored, WatchRequest::Announce(stored("127.0.0.1:9"))).await;
    assert!(matches!(heard, MetaReply::Watch(WatchReply::Heard { .. })), "{heard:?}");
    let joined = until_told(&bench.service, EventKind::ServerJoined).await;
    assert_eq!(joined.subject, "1 nas");
    let set = MetricSet::new();
    register(&set, &bench.service);
    let text = set.render().unwrap();
    for line in ["dgfs_meta_server_up{server=\"1\",label=\"nas\"} 1", "dgfs_meta_members{kind=\"stored\"} 1"] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    // Another writer has heard of nobody, and knows it all the same.
    let bench = bench.taken_over().await;
    let metrics = |all: Vec<MemberStatus>| all.into_iter().map(|one| one.who.metrics).collect::<Vec<_>>();
    assert_eq!(metrics(bench.service.processes()), ["127.0.0.1:9"]);
    let remove = AdminRequest::Server { id: ServerId(1), command: ServerCommand::Remove { force: true } };
    assert_eq!(ask(&bench.service, Role::Client, MetaRequest::Admin(remove)).await, MetaReply::Done);
    until_told(&bench.service, EventKind::ServerRemoved).await;
    assert_eq!(metrics(bench.service.processes()), Vec::<String>::new());
}

#[tokio::test]
async fn announcements_and_questions_of_the_wrong_kind_are_refused() {
    let bench = Bench::new(false).await;
    let announce = |who| WatchRequest::Announce(who);
    let refused = |status| MetaReply::Refused(status);
    let said = watch(&bench.service, Role::Client, announce(stored("127.0.0.1:9"))).await;
    assert_eq!(said, refused(Status::Forbidden));
    let long = Announce { name: "n".repeat(300), ..stored("") };
    assert_eq!(watch(&bench.service, Role::Stored, announce(long)).await, refused(Status::Malformed));
    let ask = WatchRequest::Events { after: 0, limit: 1, wait: false };
    assert_eq!(watch(&bench.service, Role::Stored, ask).await, refused(Status::Forbidden));
    // A server that is not a member announces itself, and nothing of it is kept.
    let _ = watch(&bench.service, Role::Stored, announce(stored("127.0.0.1:9"))).await;
    assert_eq!(bench.service.processes().len(), 1);
    let bench = bench.taken_over().await;
    assert_eq!(bench.service.processes().len(), 0);
}

async fn on_redis(server: &RedisServer, holder: &str) -> Arc<MetaService> {
    let engine: Arc<dyn Engine> =
        Arc::new(RedisEngine::connect(&server.url(), "vol", RedisDurability::Everysec).await.unwrap());
    let options = MetaOptions {
        holder: holder.to_owned(),
        memory_bytes: MEMORY_BYTES_DEFAULT,
        exclusive: false,
        data: None,
        root_owner: Caller { uid: 0, gid: 0 },
        server_grace_ms: SERVER_GRACE_MS_DEFAULT,
        clock: Clock::real(),
    };
    let service = MetaService::start(engine, options).await.unwrap();
    service.introduce(announcement(ProcessKind::Meta, holder, Some(format!("127.0.0.1:{holder}"))));
    service
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_known_to_the_active_service_and_redis_settings_that_do_not_fit_are_told() {
    let server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Everysec).await.unwrap();
    format_volume(&engine, &super::volume(), Class::SINGLE).await.unwrap();
    let first = on_redis(&server, "1").await;
    until("one is active", || first.is_active()).await;
    let second = on_redis(&server, "2").await;
    until("the standby is known", || first.processes().len() == 2).await;
    assert_eq!(second.processes().len(), 1, "a standby knows itself");
    let set = MetricSet::new();
    register(&set, &first);
    let shows = |line: &str| set.render().unwrap().lines().any(|shown| shown == line);
    until("Redis was looked at", || shows("dgfs_meta_redis_durable 1") && shows("dgfs_meta_standbys 1")).await;
    assert!(
        shows("dgfs_meta_redis_up 1") && shows("dgfs_meta_redis_primary 1") && shows("dgfs_meta_redis_aof_enabled 1")
    );
    assert!(server.command("CONFIG SET appendonly no").starts_with("+OK"));
    until("it is told", || shows("dgfs_meta_redis_durable 0") && shows("dgfs_meta_redis_aof_enabled 0")).await;
    until_told(&first, EventKind::EngineNotDurable).await;
    assert!(server.command("CONFIG SET appendonly yes").starts_with("+OK"));
    until("it is mended", || shows("dgfs_meta_redis_durable 1")).await;
    until_told(&first, EventKind::EngineDurable).await;
    let said = events(&first, 0).await.len();
    first.shutdown().await.unwrap();
    until("the other one takes over", || second.is_active()).await;
    until_told(&second, EventKind::MetaActive).await;
    assert!(events(&second, 0).await.len() >= said);
}
