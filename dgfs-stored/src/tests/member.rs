//! The service's answers and the membership, with a metadata service made of a list.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, PutDurability, VersionId};
use dgfs_proto::ids::{Epoch, ServerId};
use dgfs_proto::map::Labels;
use dgfs_proto::meta::{GarbageItem, MetaCall, MetaReply, MetaRequest, ServerRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{CallError, Channel, ChunkProtocol, Handler, LocalChannel, MetaProtocol, Peer, Role};
use dgfs_runtime::clock::{Clock, ManualClock};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{TestDir, data_patch, id, options, put, put_of};
use crate::beat::{Joining, Member};
use crate::metas::Metas;
use crate::service::StoreService;
use crate::store::{Store, StoreOptions};

struct FakeMeta {
    garbage: Mutex<Vec<GarbageItem>>,
    live: Vec<VersionId>,
    /// Answers nothing while set.
    away: Mutex<u32>,
    collected: watch::Sender<Vec<u64>>,
    asked: watch::Sender<Vec<VersionId>>,
    beats: watch::Sender<u32>,
    questions: AtomicU32,
}

impl FakeMeta {
    fn answer(&self, request: ServerRequest) -> MetaReply {
        let mut away = self.away.lock();
        if *away > 0 {
            *away -= 1;
            return MetaReply::Refused(Status::NotActive);
        }
        match request {
            ServerRequest::Join { .. } => MetaReply::Joined { id: ServerId(9), chunk_bytes: 4 << 20, epoch: Epoch(1) },
            ServerRequest::Beat { collected, .. } => {
                self.beats.send_modify(|beats| *beats += 1);
                self.collected.send_modify(|all| all.extend(collected));
                MetaReply::Beat {
                    epoch: Epoch(1),
                    policies: 0,
                    garbage: std::mem::take(&mut self.garbage.lock()),
                    sessions: None,
                }
            }
            ServerRequest::CheckLive(questions) => {
                self.asked.send_modify(|all| all.extend(questions.iter().map(|question| question.id)));
                MetaReply::Live(questions.iter().map(|question| self.live.contains(&question.id)).collect())
            }
            ServerRequest::CheckMoves(_)
            | ServerRequest::CheckCompression(_)
            | ServerRequest::Numbers { .. }
            | ServerRequest::Move { .. } => {
                panic!("a store without a cluster moves nothing: {request:?}")
            }
        }
    }
}

impl Handler<MetaProtocol> for FakeMeta {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        Box::pin(async move {
            let MetaRequest::Server(request) = call.request else { panic!("{call:?}") };
            if matches!(request, ServerRequest::CheckLive(_)) {
                // Slower than heartbeats, which must go on meanwhile.
                self.questions.fetch_add(1, Ordering::Relaxed);
                let mut beats = self.beats.subscribe();
                let seen = *beats.borrow();
                beats.wait_for(|beats| *beats >= seen + 2).await.unwrap();
            }
            (self.answer(request), Bytes::new())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn member_drops_garbage_and_orphans_and_reports_them() {
    let directory = TestDir::new();
    let hand = ManualClock::starting_at(1_000_000 * 1_000_000_000);
    let store = Store::open(StoreOptions { clock: Clock::manual(&hand), ..options(directory.path()) }).unwrap();
    for version in 1..=4 {
        put(&store, id(1, version), None, 0, b"old");
    }
    hand.advance(Duration::from_secs(1000));
    put(&store, id(1, 5), None, 0, b"young");
    let meta = Arc::new(FakeMeta {
        garbage: Mutex::new(vec![GarbageItem { number: 77, id: id(1, 1) }]),
        live: vec![id(1, 2)],
        away: Mutex::new(5),
        collected: watch::Sender::new(Vec::new()),
        asked: watch::Sender::new(Vec::new()),
        beats: watch::Sender::new(0),
        questions: AtomicU32::new(0),
    });
    let (mut collected, mut asked) = (meta.collected.subscribe(), meta.asked.subscribe());
    let channel: Arc<dyn Channel<MetaProtocol>> =
        Arc::new(LocalChannel::<MetaProtocol>::new(meta.clone(), Role::Stored));
    let joining = Joining {
        store: Arc::clone(&store),
        metas: vec![channel],
        address: String::new(),
        label: "test".to_owned(),
        labels: Labels::default(),
        peers: None,
        work: tokio::runtime::Handle::current(),
    };
    let member = Member::join(joining).await.unwrap();
    assert_eq!(store.server(), Some(ServerId(9)));
    collected.wait_for(|all| *all == [77]).await.unwrap();
    assert_eq!(*asked.wait_for(|all| !all.is_empty()).await.unwrap(), [id(1, 2), id(1, 3), id(1, 4)]);
    member.leave().await;
    assert_eq!(meta.questions.load(Ordering::Relaxed), 1, "beats waited for the answer");
    let held: Vec<VersionId> = store.list(None, 10).unwrap().iter().map(|held| held.held.id).collect();
    assert_eq!(held, [id(1, 2), id(1, 5)]);
}

/// A metadata service that was stopped: it takes calls and never answers.
#[derive(Default)]
struct SilentMeta {
    calls: AtomicU32,
}

impl Channel<MetaProtocol> for SilentMeta {
    fn call(
        &self,
        _: MetaCall,
        _: Bytes,
        deadline: Option<Duration>,
    ) -> BoxFuture<'static, Result<(MetaReply, Bytes), CallError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let after = deadline.expect("a call to meta has a deadline");
            tokio::time::sleep(after).await;
            Err(CallError::TimedOut { peer: "silent".to_owned(), after })
        })
    }

    fn peer(&self) -> &'static str {
        "silent"
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_metadata_service_delays_one_heartbeat_and_no_more() {
    let silent = Arc::new(SilentMeta::default());
    let meta = Arc::new(FakeMeta {
        garbage: Mutex::default(),
        live: Vec::new(),
        away: Mutex::new(0),
        collected: watch::Sender::new(Vec::new()),
        asked: watch::Sender::new(Vec::new()),
        beats: watch::Sender::new(0),
        questions: AtomicU32::new(0),
    });
    let metas = Metas::new(vec![
        Arc::clone(&silent) as Arc<dyn Channel<MetaProtocol>>,
        Arc::new(LocalChannel::<MetaProtocol>::new(meta, Role::Stored)),
    ]);
    let beat = || {
        MetaRequest::Server(ServerRequest::Beat {
            id: ServerId(9),
            disk: 1,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            collected: Vec::new(),
            filled: Vec::new(),
            upkeep: Default::default(),
            sessions: 0,
        })
    };
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        assert!(matches!(metas.ask(beat()).await.unwrap().0, MetaReply::Beat { .. }));
    }
    assert_eq!(silent.calls.load(Ordering::Relaxed), 1);
    assert!(began.elapsed() < Duration::from_millis(dgfs_proto::limits::SERVER_DOWN_MS));
}

fn call(request: ChunkRequest) -> ChunkCall {
    ChunkCall { request_id: 1, map_epoch: Epoch(1), session: None, request }
}

fn first_poll(service: &Arc<StoreService>, request: ChunkRequest, body: Bytes) -> Option<(ChunkReply, Bytes)> {
    let peer = Arc::new(Peer { role: Role::Client, address: "test".to_owned(), local: true });
    let mut answer = Arc::clone(service).handle(peer, call(request), body);
    match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[test]
fn gets_and_handed_puts_are_answered_at_the_first_poll() {
    let directory = TestDir::new();
    let service = StoreService::new(super::open(directory.path()));
    let request = ChunkRequest::Put(put_of(id(1, 1), None, vec![data_patch(2, b"bytes")]));
    let stored = first_poll(&service, request, Bytes::from_static(b"bytes")).unwrap();
    assert_eq!(stored.0, ChunkReply::Put { allocated: 5 });
    let got = first_poll(&service, ChunkRequest::Get { id: id(1, 1), offset: 0, len: 8 }, Bytes::new()).unwrap();
    assert_eq!(got, (ChunkReply::Data { crc: crc32c::crc32c(b"\0\0bytes\0") }, Bytes::from_static(b"\0\0bytes\0")));
    let refused = first_poll(&service, ChunkRequest::Get { id: id(1, 2), offset: 0, len: 8 }, Bytes::new()).unwrap();
    assert_eq!(refused, (ChunkReply::Refused(Status::NoVersion), Bytes::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_synced_puts_share_their_syncs() {
    let directory = TestDir::new();
    let store = super::open(directory.path());
    let service = StoreService::new(Arc::clone(&store));
    let channel = Arc::new(LocalChannel::<ChunkProtocol>::new(service, Role::Client));
    let mut puts = Vec::new();
    for version in 1..=200 {
        let channel = Arc::clone(&channel);
        puts.push(tokio::spawn(async move {
            let mut put = put_of(id(version, version), None, vec![data_patch(0, b"x")]);
            put.durability = PutDurability::Synced;
            channel.call(call(ChunkRequest::Put(put)), Bytes::from_static(b"x"), None).await.unwrap().0
        }));
    }
    for put in puts {
        assert_eq!(put.await.unwrap(), ChunkReply::Put { allocated: 1 });
    }
    let status = store.status();
    assert!(status.syncs < 150, "{}", status.syncs);
    for request in [ChunkRequest::Sync, ChunkRequest::Verify(id(3, 3))] {
        assert_eq!(channel.call(call(request), Bytes::new(), None).await.unwrap().0, ChunkReply::Done);
    }
    let list = ChunkRequest::List { after: Some(id(197, 197)), until: None, limit: 2 };
    let (ChunkReply::Held(held), _) = channel.call(call(list), Bytes::new(), None).await.unwrap() else { panic!() };
    assert_eq!(held.iter().map(|held| held.id).collect::<Vec<_>>(), [id(198, 198), id(199, 199)]);
    let extents = channel.call(call(ChunkRequest::Extents(id(5, 5))), Bytes::new(), None).await.unwrap().0;
    assert!(matches!(extents, ChunkReply::Extents(ranges) if ranges.len() == 1));
    let status = channel.call(call(ChunkRequest::Status), Bytes::new(), None).await.unwrap().0;
    assert!(matches!(status, ChunkReply::Status(status) if status.versions == 200));
}
