//! Copies on several servers: whole versions travel, damaged ones are replaced, old maps are refused, what is lacking is fetched.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dgfs_client::stores::ChunkDirectory;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, Patch, PatchKind, VersionId};
use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, ChunkVersion, Epoch, Partition, ServerId, SessionId};
use dgfs_proto::map::{ClassMap, ClusterMap, Holder, Labels, Placement, ServerInfo, Standing};
use dgfs_proto::meta::{Filled, LivingSessions, MetaCall, MetaReply, MetaRequest};
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, ChunkProtocol, Handler, LocalChannel, MetaProtocol, Peer, Role};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Random, TestDir, data_patch, open, put, put_of, read, reopen};
use crate::fill::Filler;
use crate::pace::Pace;
use crate::service::StoreService;
use crate::store::{Store, Whole};
use crate::upkeep;
use crate::view::ClusterView;

/// Meta, as far as storage daemons ask it for the map.
struct Mapper(Mutex<ClusterMap>);

impl Handler<MetaProtocol> for Mapper {
    fn handle(self: Arc<Self>, _: Arc<Peer>, call: MetaCall, _: Bytes) -> BoxFuture<'static, (MetaReply, Bytes)> {
        let map = self.0.lock().clone();
        let reply = match call.request {
            MetaRequest::GetMap(known) => MetaReply::Map((map.epoch > known).then_some(map)),
            _ => MetaReply::Refused(Status::NotSupported),
        };
        Box::pin(async move { (reply, Bytes::new()) })
    }
}

/// The services of all servers, by number.
#[derive(Default)]
struct Neighbours(Mutex<Vec<Arc<StoreService>>>);

impl ChunkDirectory for Neighbours {
    fn channel(&self, server: &ServerInfo) -> Arc<dyn Channel<ChunkProtocol>> {
        let service = Arc::clone(&self.0.lock()[server.id.0 as usize - 1]);
        Arc::new(LocalChannel::<ChunkProtocol>::new(service, Role::Stored))
    }
}

struct Ring {
    class: Class,
    meta: Arc<Mapper>,
    views: Vec<Arc<ClusterView>>,
    neighbours: Arc<Neighbours>,
    directories: Vec<TestDir>,
}

fn info(id: u32) -> ServerInfo {
    ServerInfo {
        id: ServerId(id),
        address: id.to_string(),
        label: id.to_string(),
        labels: Labels::default(),
        weight: 1,
        standing: Standing::Active,
        up: true,
        capacity_bytes: 0,
        used_bytes: 0,
        free_bytes: 0,
    }
}

impl Ring {
    /// As many servers as the class is wide; all of them hold everything, place by place.
    async fn new(class: Class) -> Self {
        let count = class.width() as u32;
        let members = (1..=count).map(|id| Holder { server: ServerId(id), full: true, since: Epoch(1) }).collect();
        let placement = Placement { members, extras: Vec::new(), changed: Epoch(1) };
        let classes = vec![ClassMap { class, placements: vec![placement; 4096] }];
        let servers = (1..=count).map(info).collect();
        let map = ClusterMap { epoch: Epoch(1), servers, classes, default_class: class, policies: 0 };
        let meta = Arc::new(Mapper(Mutex::new(map)));
        let neighbours = Arc::new(Neighbours::default());
        let (mut views, mut directories) = (Vec::new(), Vec::new());
        for id in 1..=count {
            let directory = TestDir::new();
            let store = open(directory.path());
            store.set_server(ServerId(id)).unwrap();
            let to_meta: Arc<dyn Channel<MetaProtocol>> =
                Arc::new(LocalChannel::<MetaProtocol>::new(Arc::clone(&meta) as _, Role::Stored));
            let view = ClusterView::new(store, vec![to_meta], Arc::clone(&neighbours) as _);
            assert!(view.reach(Epoch(1)).await);
            neighbours.0.lock().push(StoreService::of_member(Arc::clone(&view)));
            views.push(view);
            directories.push(directory);
        }
        Self { class, meta, views, neighbours, directories }
    }

    fn store(&self, at: usize) -> &Arc<Store> {
        self.views[at].store()
    }

    fn id(&self, number: u64, version: u64) -> VersionId {
        VersionId { chunk: ChunkId::of(self.class, number).unwrap(), version: ChunkVersion::new(version).unwrap() }
    }

    /// Meta has a newer map.
    fn change(&self, change: impl Fn(&mut Placement)) {
        let mut map = self.meta.0.lock();
        map.epoch = Epoch(map.epoch.0 + 1);
        map.classes[0].placements.iter_mut().for_each(change);
    }

    async fn ask(&self, at: usize, map_epoch: u64, request: ChunkRequest, body: Bytes) -> (ChunkReply, Bytes) {
        self.ask_as(None, at, (map_epoch, request, body)).await
    }

    async fn ask_as(
        &self,
        session: Option<SessionId>,
        at: usize,
        (map_epoch, request, body): (u64, ChunkRequest, Bytes),
    ) -> (ChunkReply, Bytes) {
        let call = ChunkCall { request_id: 1, map_epoch: Epoch(map_epoch), session, request };
        let peer = Arc::new(Peer { role: Role::Client, address: "test".to_owned(), local: true });
        let service = Arc::clone(&self.neighbours.0.lock()[at]);
        service.handle(peer, call, body).await
    }

    /// Spoils the record of a version on the disk.
    fn spoil(&self, at: usize, id: VersionId) {
        use std::os::unix::fs::FileExt as _;
        let place = self.store(at).shelf.table.get(id).unwrap().unwrap().place;
        let path = self.directories[at].path().join(format!("segments/{:08}.seg", place.segment));
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let middle = u64::from(place.offset) + u64::from(place.total) / 2;
        let mut byte = [0];
        file.read_exact_at(&mut byte, middle).unwrap();
        file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    }
}

#[tokio::test]
async fn a_session_that_is_over_can_neither_put_nor_read() {
    let ring = Ring::new(r2()).await;
    let (dead, living) = (SessionId::new(4), SessionId::new(5));
    let told = LivingSessions { version: 1, newest: 5, living: living.into_iter().collect() };
    ring.views[0].fence.learn(told);
    let request = put_of(ring.id(1, 1), None, vec![data_patch(0, b"by whom")]);
    let body = Bytes::from_static(b"by whom");
    let put = || (1, ChunkRequest::Put(request.clone()), body.clone());
    assert_eq!(ring.ask_as(dead, 0, put()).await.0, ChunkReply::Refused(Status::Stale));
    assert!(matches!(ring.ask_as(living, 0, put()).await.0, ChunkReply::Put { .. }));
    let get = || (1, ChunkRequest::Get { id: ring.id(1, 1), offset: 0, len: 7 }, Bytes::new());
    assert_eq!(ring.ask_as(dead, 0, get()).await.0, ChunkReply::Refused(Status::Stale));
    assert_eq!(ring.ask_as(living, 0, get()).await.1, Bytes::from_static(b"by whom"));
}

/// As while a put that is being admitted waits for its disk.
#[tokio::test]
async fn a_heartbeat_leaves_a_newer_map_for_the_next_one_while_a_put_holds_the_old_one() {
    let ring = Ring::new(r2()).await;
    ring.change(|placement| placement.changed = Epoch(2));
    let view = &ring.views[0];
    // In one process nobody is waited for.
    let reach_soon = |epoch| view.reach_soon(epoch).now_or_never().expect("an answer at once");
    let held = view.hold();
    assert!(reach_soon(Epoch(1)), "it is there");
    assert!(!reach_soon(Epoch(2)), "a put holds the old one");
    assert_eq!(held.epoch, Epoch(1));
    drop(held);
    assert!(reach_soon(Epoch(2)));
    assert_eq!(view.map().epoch, Epoch(2));
}

fn r2() -> Class {
    Class::replicated(2).unwrap()
}

#[test]
fn a_version_travels_whole_holes_and_all_and_damage_on_the_way_is_refused() {
    let (from, to) = (TestDir::new(), TestDir::new());
    let (one, other) = (open(from.path()), open(to.path()));
    let mut random = Random::seeded();
    let id = |version| super::id(5, version);
    let first = random.bytes(100_000);
    put(&one, id(1), None, 0, &first);
    put(&one, id(2), Some((1, 60_000)), 200_000, b"behind a hole");
    let hole = Patch { offset: 10_000, len: 5_000, kind: PatchKind::Zero };
    one.put(&put_of(id(3), Some((2, 200_013)), vec![hole]), &Bytes::new()).unwrap();
    let expected = read(&one, id(3), 200_013);
    let whole = one.export(id(3)).unwrap();
    let mut bad = whole.body.to_vec();
    bad[7] ^= 1;
    let spoilt = Whole { body: Bytes::from(bad), ..whole.clone() };
    assert_eq!(other.import(id(3), &spoilt), Err(Status::Corrupt));
    other.import(id(3), &whole).unwrap();
    assert_eq!(read(&other, id(3), 200_013), expected);
    assert_eq!(other.extents(id(3)), one.extents(id(3)));
    assert_eq!(other.import(id(3), &whole).unwrap(), one.import(id(3), &whole).unwrap(), "once more changes nothing");
    assert_eq!(one.export(id(9)).unwrap_err(), Status::NoVersion);
    let other = reopen(other);
    assert_eq!(read(&other, id(3), 200_013), expected);
}

#[tokio::test]
async fn a_damaged_version_is_served_by_nobody_replaced_from_a_copy_and_those_that_show_it_stay_right() {
    let ring = Ring::new(r2()).await;
    let mut random = Random::seeded();
    let bytes = random.bytes(120_000);
    let (base, patched) = (ring.id(77, 1), ring.id(77, 2));
    for at in 0..2 {
        put(ring.store(at), base, None, 0, &bytes);
        put(ring.store(at), patched, Some((1, 120_000)), 50_000, b"patched");
    }
    let expected = read(ring.store(1), patched, 120_000);
    ring.spoil(0, base);
    assert_eq!(ring.store(0).verify(base), Err(Status::Corrupt));
    let (stop, stopped) = watch::channel(false);
    let healing = tokio::spawn(upkeep::heal(Arc::clone(&ring.views[0]), stopped));
    let healed = async {
        while ring.store(0).status().upkeep.healed < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), healed).await.expect("both versions are replaced");
    stop.send_replace(true);
    healing.await.unwrap();
    assert_eq!(read(ring.store(0), base, 120_000), bytes);
    assert_eq!(read(ring.store(0), patched, 120_000), expected);
    // Whatever the first record was, the last one counts after a crash and a rebuild, too.
    ring.store(0).drop_versions(&[base]).unwrap();
    assert_eq!(read(ring.store(0), patched, 120_000), expected);
    ring.store(0).checkpoint().unwrap();
    assert_eq!(ring.store(0).verify(patched), Ok(()));
}

#[tokio::test]
async fn a_put_by_an_old_map_is_refused_with_the_newer_one_and_a_list_waits_for_the_callers_map() {
    let ring = Ring::new(r2()).await;
    let put = |version| ChunkRequest::Put(put_of(ring.id(5, version), None, vec![data_patch(0, b"x")]));
    let body = || Bytes::from_static(b"x");
    assert!(matches!(ring.ask(0, 1, put(1), body()).await.0, ChunkReply::Put { allocated: 1 }));
    // Server 2 leaves the partition: it is not to take writes any more.
    ring.change(|placement| {
        placement.members.truncate(1);
        placement.changed = Epoch(2);
    });
    assert!(matches!(ring.ask(0, 1, put(2), body()).await.0, ChunkReply::Put { .. }), "nobody has heard of it yet");
    let list = ChunkRequest::List { after: None, until: None, limit: 10 };
    let (ChunkReply::Held(held), _) = ring.ask(0, 2, list.clone(), Bytes::new()).await else { panic!("no list") };
    assert_eq!(held.len(), 2, "what was put before the list was asked for is in it");
    let (ChunkReply::OldMap(newer), _) = ring.ask(0, 1, put(3), body()).await else { panic!("an old map was taken") };
    assert_eq!(newer.epoch, Epoch(2));
    assert!(matches!(ring.ask(0, 2, put(3), body()).await.0, ChunkReply::Put { .. }));
    assert!(matches!(ring.ask(1, 2, put(4), body()).await.0, ChunkReply::OldMap(_)), "no member any more");
    assert!(matches!(ring.ask(0, 9, list, Bytes::new()).await.0, ChunkReply::Refused(Status::Busy)));
}

#[tokio::test]
async fn a_base_that_a_server_lacks_is_fetched_before_the_patch() {
    let ring = Ring::new(r2()).await;
    let mut random = Random::seeded();
    let bytes = random.bytes(40_000);
    put(ring.store(0), ring.id(8, 1), None, 0, &bytes);
    let patch = put_of(ring.id(8, 2), Some((1, 40_000)), vec![data_patch(10, b"new")]);
    let reply = ring.ask(1, 1, ChunkRequest::Put(patch), Bytes::from_static(b"new")).await.0;
    assert!(matches!(reply, ChunkReply::Put { allocated: 40_000 }), "{reply:?}");
    let mut expected = bytes.clone();
    expected[10..13].copy_from_slice(b"new");
    assert_eq!(read(ring.store(1), ring.id(8, 2), 40_000), expected);
    let lost = put_of(ring.id(9, 2), Some((1, 5)), vec![data_patch(0, b"a")]);
    let reply = ring.ask(1, 1, ChunkRequest::Put(lost), Bytes::from_static(b"a")).await.0;
    assert_eq!(reply, ChunkReply::Refused(Status::NoVersion), "nobody has that base");
}

/// Lets server `at` fill itself; what it reports then.
async fn fill(ring: &Ring, at: usize) -> Vec<Filled> {
    let filler = Filler::new(Arc::clone(&ring.views[at]), Pace::new(None));
    let (stop, stopped) = watch::channel(false);
    let filling = tokio::spawn(Arc::clone(&filler).run(stopped));
    let lacking = ring.views[at].map().classes[0].placements.iter().filter(|p| !p.members[at].full).count();
    let done = async {
        while filler.report().len() < lacking {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), done).await.expect("everything is filled");
    stop.send_replace(true);
    filling.await.unwrap();
    filler.report()
}

#[tokio::test]
async fn a_member_that_is_not_full_fetches_what_it_lacks_and_nothing_else() {
    let ring = Ring::new(r2()).await;
    let mut random = Random::seeded();
    let mut contents = Vec::new();
    for number in 1..=50 {
        let len = 3_000 + random.below(20_000) as usize;
        let bytes = random.bytes(len);
        put(ring.store(0), ring.id(number, number), None, 0, &bytes);
        if number % 3 == 0 {
            put(ring.store(1), ring.id(number, number), None, 0, &bytes);
        }
        contents.push(bytes);
    }
    ring.change(|placement| {
        placement.members[1] = Holder { server: ServerId(2), full: false, since: Epoch(2) };
        placement.changed = Epoch(2);
    });
    assert!(ring.views[1].reach(Epoch(2)).await);
    let filled = fill(&ring, 1).await;
    assert_eq!(filled.len(), 4096);
    assert!(filled.iter().all(|filled| filled.since == Epoch(2)));
    let partitions: BTreeSet<Partition> = filled.iter().map(|filled| filled.partition).collect();
    assert_eq!(partitions.len(), 4096);
    for (number, bytes) in (1..).zip(&contents) {
        assert_eq!(read(ring.store(1), ring.id(number, number), bytes.len()), *bytes);
    }
    let upkeep = ring.store(1).status().upkeep;
    assert_eq!((upkeep.fetched, upkeep.not_found), (34, 0));
}

/// The bug: the member was never full, because it refused for ever to take a version that it had been told to drop and that a
/// server which was away at the time still listed.
#[tokio::test]
async fn a_version_that_was_dropped_here_is_not_wanted_again_from_a_server_that_has_not_heard_of_it() {
    let ring = Ring::new(r2()).await;
    let (old, new) = (ring.id(5, 1), ring.id(5, 2));
    for at in 0..2 {
        put(ring.store(at), old, None, 0, &[7; 50_000]);
        put(ring.store(at), new, Some((1, 50_000)), 100, b"patch");
    }
    // Its data are shown by the newer one, so it is not forgotten.
    ring.store(1).drop_versions(&[old]).unwrap();
    ring.store(1).checkpoint().unwrap();
    ring.change(|placement| {
        placement.members[1] = Holder { server: ServerId(2), full: false, since: Epoch(2) };
        placement.changed = Epoch(2);
    });
    assert!(ring.views[1].reach(Epoch(2)).await);
    assert_eq!(fill(&ring, 1).await.len(), 4096);
    assert_eq!(ring.store(1).get(old, 0, 1), Err(Status::NoVersion));
    assert_eq!(read(ring.store(1), new, 50_000), read(ring.store(0), new, 50_000));
}

#[tokio::test]
async fn a_shard_that_is_lacking_is_rebuilt_from_the_others() {
    let class = Class::coded(4, 2).unwrap();
    let ring = Ring::new(class).await;
    let mut random = Random::seeded();
    let bytes = random.bytes(300_001);
    let shards = dgfs_client::coding::encode(class, &bytes).unwrap();
    let id = ring.id(4097, 3);
    let name = |shard: u8| VersionId { chunk: id.chunk.with_shard(shard), version: id.version };
    // Two are missing, of one data shard and one parity.
    for shard in [0, 2, 3, 4] {
        put(ring.store(shard), name(shard as u8), None, 0, &shards[shard]);
    }
    ring.change(|placement| {
        for at in [1, 5] {
            placement.members[at] = Holder { server: ServerId(at as u32 + 1), full: false, since: Epoch(2) };
        }
        placement.changed = Epoch(2);
    });
    for at in [1, 5] {
        assert!(ring.views[at].reach(Epoch(2)).await);
        assert_eq!(fill(&ring, at).await.len(), 4096);
        assert_eq!(read(ring.store(at), name(at as u8), shards[at].len()), shards[at]);
    }
}

#[tokio::test]
async fn what_moved_away_is_dropped_once_all_members_are_full_and_so_are_shards_held_for_others() {
    let class = Class::coded(2, 1).unwrap();
    let ring = Ring::new(class).await;
    let id = ring.id(9, 3);
    let name = |shard: u8| VersionId { chunk: id.chunk.with_shard(shard), version: id.version };
    // The first server has its own shard and one that it held while the second was down.
    put(ring.store(0), name(0), None, 0, b"own");
    put(ring.store(0), name(1), None, 0, b"for another");
    put(ring.store(2), name(2), None, 0, b"moves away");
    let (stop, stopped) = watch::channel(false);
    let keeping: Vec<_> =
        [0, 2].map(|at: usize| tokio::spawn(upkeep::vacate(Arc::clone(&ring.views[at]), stopped.clone()))).into();
    let held = |at: usize| ring.store(at).list(None, 10).unwrap().iter().map(|held| held.held.id).collect::<Vec<_>>();
    let gone = async {
        while held(0) != [name(0)] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the other's shard goes");
    // The last place moves to a server that has yet to fetch it: its old holder keeps it until then.
    let full = std::sync::atomic::AtomicBool::new(false);
    let moved = |placement: &mut Placement| {
        let full = full.load(std::sync::atomic::Ordering::Relaxed);
        placement.members[2] = Holder { server: ServerId(2), full, since: Epoch(2) };
        placement.changed = Epoch(2);
    };
    ring.change(moved);
    assert!(ring.views[2].reach(Epoch(2)).await);
    tokio::task::yield_now().await;
    assert_eq!(held(2), [name(2)]);
    full.store(true, std::sync::atomic::Ordering::Relaxed);
    ring.change(moved);
    assert!(ring.views[2].reach(Epoch(3)).await);
    let gone = async {
        while !held(2).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("what moved away goes");
    stop.send_replace(true);
    for task in keeping {
        task.await.unwrap();
    }
}
