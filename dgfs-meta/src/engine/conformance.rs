//! What every engine promises, as one suite run against each of them.
//!
//! Never looks inside an engine. Always true: a test names the promise; random tests print their seed.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use dgfs_proto::ids::Epoch;

use super::fjall::{FjallEngine, Limits};
use super::redis::{RedisDurability, RedisEngine};
use super::testing::{RedisServer, TestDir};
use super::{Batch, Durability, Engine, EngineError, RowKey, RowRange, Table, WriterLease};

/// Short, so that a test need not wait for seconds; long against a scheduling hiccup.
const LEASE_MS: u64 = 700;

/// Two handles on one store: two holders may compete. An embedded engine has one handle for both.
struct Pair {
    first: Arc<dyn Engine>,
    second: Arc<dyn Engine>,
    _keeps: (Option<RedisServer>, Option<TestDir>),
}

async fn fjall_pair() -> Pair {
    let dir = TestDir::new("fjall");
    let place = dir.path().join("meta");
    drop(FjallEngine::create(&place).unwrap());
    let limits = Limits { lease_time: Duration::from_millis(LEASE_MS), free_bytes_min: None };
    let engine: Arc<dyn Engine> = Arc::new(FjallEngine::open_with(&place, limits).unwrap());
    Pair { first: Arc::clone(&engine), second: engine, _keeps: (None, Some(dir)) }
}

async fn redis_pair() -> Pair {
    let server = RedisServer::start(&[]);
    let connect = async || {
        let level = RedisDurability::Always;
        RedisEngine::connect_with_lease(&server.url(), "vol", level, LEASE_MS).await.unwrap()
    };
    let (first, second) = (Arc::new(connect().await), Arc::new(connect().await));
    Pair { first, second, _keeps: (Some(server), None) }
}

macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod on_fjall {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::fjall_pair().await).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
            async fn $name() {
                super::$name(super::redis_pair().await).await;
            })*
        }
    };
}

promises![
    a_committed_batch_is_read_back_whole_and_after_a_rewrite_only_the_new_value,
    a_repeated_batch_is_applied_once,
    a_gap_or_a_foreign_number_is_regressed_and_changes_nothing,
    an_older_epoch_is_fenced_and_changes_nothing,
    a_live_lease_keeps_others_out_until_it_is_released,
    an_expired_lease_is_taken_over_and_its_holder_fenced,
    a_renewed_lease_outlives_its_first_time,
    lists_begin_and_end_where_asked_also_at_the_ends_of_the_number_range,
    deleted_rows_are_gone_and_absent_ones_may_be_deleted,
    values_are_any_bytes_up_to_300_kib_and_may_be_empty,
    partitions_are_those_with_rows_in_order,
    a_batch_of_fifty_thousand_rows_is_applied_whole,
    a_random_history_matches_a_map,
];

fn key(table: Table, partition: u64, sort: u64) -> RowKey {
    RowKey { table, partition, sort }
}

fn inode(sort: u64) -> RowKey {
    key(Table::Inode, sort / 64, sort)
}

fn put(key: RowKey, value: &[u8]) -> (RowKey, Option<Vec<u8>>) {
    (key, Some(value.to_vec()))
}

fn batch(number: u64, rows: Vec<(RowKey, Option<Vec<u8>>)>) -> Batch {
    Batch::of(number, rows)
}

async fn take(engine: &dyn Engine, holder: &str) -> WriterLease {
    engine.acquire(holder.to_owned()).await.unwrap().expect("nobody else holds the lease")
}

async fn commit(engine: &dyn Engine, epoch: Epoch, number: u64, rows: Vec<(RowKey, Option<Vec<u8>>)>) {
    engine.commit(epoch, batch(number, rows), Durability::Handed).await.unwrap();
}

async fn sorts(engine: &dyn Engine, from: u64, to: u64, limit: usize) -> Vec<u64> {
    let range = RowRange { table: Table::Dentry, partition: 7, from, to, limit };
    engine.list(range).await.unwrap().into_iter().map(|(key, _)| key.sort).collect()
}

async fn a_committed_batch_is_read_back_whole_and_after_a_rewrite_only_the_new_value(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    assert_eq!((lease.epoch, lease.last_batch), (Epoch(1), 0));
    let other = key(Table::Dentry, 1, 1);
    commit(engine, lease.epoch, 1, vec![put(inode(1), b"one"), put(inode(2), b"two"), put(other, b"name")]).await;
    let synced = batch(2, vec![put(inode(2), b"new"), (other, None)]);
    engine.commit(lease.epoch, synced, Durability::Synced).await.unwrap();
    engine.sync().await.unwrap();
    let calls = pair.second.calls();
    let read = pair.second.load(vec![inode(2), other, inode(1), inode(3), inode(2)]).await.unwrap();
    let expected = [Some(&b"new"[..]), None, Some(b"one"), None, Some(b"new")];
    assert_eq!(read.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    assert_eq!(pair.second.calls(), calls + 1);
    let range = RowRange { table: Table::Inode, partition: 0, from: 0, to: u64::MAX, limit: 10 };
    let listed = pair.second.list(range).await.unwrap();
    assert_eq!(listed, vec![(inode(1), b"one".to_vec()), (inode(2), b"new".to_vec())]);
    assert_eq!(engine.load(Vec::new()).await.unwrap(), Vec::<Option<Vec<u8>>>::new());
}

async fn a_repeated_batch_is_applied_once(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    commit(engine, lease.epoch, 1, vec![put(inode(1), b"first")]).await;
    commit(engine, lease.epoch, 1, vec![put(inode(1), b"repeated")]).await;
    assert_eq!(engine.load(vec![inode(1)]).await.unwrap(), vec![Some(b"first".to_vec())]);
    engine.release(lease.epoch).await.unwrap();
    assert_eq!(take(&*pair.second, "b").await.last_batch, 1);
}

async fn a_gap_or_a_foreign_number_is_regressed_and_changes_nothing(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    commit(engine, lease.epoch, 1, vec![]).await;
    commit(engine, lease.epoch, 2, vec![put(inode(1), b"second")]).await;
    for (number, expected) in [(4, 3), (1, 0), (u64::MAX, u64::MAX - 1)] {
        let refused = engine.commit(lease.epoch, batch(number, vec![put(inode(1), b"no")]), Durability::Handed).await;
        assert_eq!(refused, Err(EngineError::Regressed { at: 2, expected }), "number {number}");
    }
    let unknown = engine.commit(Epoch(9), batch(3, vec![put(inode(1), b"no")]), Durability::Handed).await;
    assert_eq!(unknown, Err(EngineError::Regressed { at: 2, expected: 2 }));
    assert_eq!(engine.load(vec![inode(1)]).await.unwrap(), vec![Some(b"second".to_vec())]);
    commit(engine, lease.epoch, 3, vec![]).await;
}

async fn an_older_epoch_is_fenced_and_changes_nothing(pair: Pair) {
    let old = take(&*pair.first, "a").await;
    commit(&*pair.first, old.epoch, 1, vec![put(inode(1), b"old")]).await;
    pair.first.release(old.epoch).await.unwrap();
    let new = take(&*pair.second, "b").await;
    assert_eq!(new, WriterLease { epoch: Epoch(2), last_batch: 1 });
    let fenced = Err(EngineError::Fenced { newer: Epoch(2) });
    for number in [1, 2, 3] {
        let late = batch(number, vec![put(inode(1), b"late")]);
        assert_eq!(pair.first.commit(old.epoch, late, Durability::Handed).await, fenced);
    }
    assert_eq!(pair.first.renew(old.epoch).await, fenced);
    assert_eq!(pair.first.release(old.epoch).await, fenced);
    assert_eq!(pair.first.load(vec![inode(1)]).await.unwrap(), vec![Some(b"old".to_vec())]);
    commit(&*pair.second, new.epoch, 2, vec![]).await;
}

async fn a_live_lease_keeps_others_out_until_it_is_released(pair: Pair) {
    let first = take(&*pair.first, "a").await;
    assert_eq!(pair.second.acquire("b".to_owned()).await.unwrap(), None);
    // The holder itself may take it anew: it may not have heard the answer.
    let again = take(&*pair.first, "a").await;
    assert!(again.epoch > first.epoch);
    assert_eq!(pair.second.acquire("b".to_owned()).await.unwrap(), None);
    pair.first.release(again.epoch).await.unwrap();
    assert!(take(&*pair.second, "b").await.epoch > again.epoch);
}

async fn an_expired_lease_is_taken_over_and_its_holder_fenced(pair: Pair) {
    let asked = Instant::now();
    let old = take(&*pair.first, "a").await;
    let new = loop {
        assert!(asked.elapsed() < Duration::from_secs(20), "the lease never ends");
        if let Some(lease) = pair.second.acquire("b".to_owned()).await.unwrap() {
            break lease;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(asked.elapsed() >= Duration::from_millis(LEASE_MS - 50), "taken after {:?}", asked.elapsed());
    assert!(new.epoch > old.epoch);
    assert_eq!(pair.first.renew(old.epoch).await, Err(EngineError::Fenced { newer: new.epoch }));
}

async fn a_renewed_lease_outlives_its_first_time(pair: Pair) {
    let lease = take(&*pair.first, "a").await;
    let taken = Instant::now();
    while taken.elapsed() < Duration::from_millis(LEASE_MS * 2) {
        pair.first.renew(lease.epoch).await.unwrap();
        let renewed = Instant::now();
        let other = pair.second.acquire("b".to_owned()).await.unwrap();
        // A machine that stopped us for a whole lease proves nothing.
        assert!(other.is_none() || renewed.elapsed() > Duration::from_millis(LEASE_MS));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lists_begin_and_end_where_asked_also_at_the_ends_of_the_number_range(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    let numbers = [0, 1, 255, 256, 65_535, 1 << 40, u64::MAX - 1, u64::MAX];
    let mut rows: Vec<_> = numbers.iter().map(|sort| put(key(Table::Dentry, 7, *sort), &sort.to_le_bytes())).collect();
    // Neighbours that must not show.
    rows.push(put(key(Table::Dentry, 6, u64::MAX), b"before"));
    rows.push(put(key(Table::Dentry, 8, 0), b"behind"));
    rows.push(put(key(Table::Chunks, 7, 1), b"another table"));
    commit(engine, lease.epoch, 1, rows).await;
    assert_eq!(sorts(engine, 0, u64::MAX, 100).await, numbers);
    assert_eq!(sorts(engine, 0, u64::MAX, 3).await, [0, 1, 255]);
    assert_eq!(sorts(engine, 1, 256, 100).await, [1, 255, 256]);
    assert_eq!(sorts(engine, 2, 254, 100).await, Vec::<u64>::new());
    assert_eq!(sorts(engine, u64::MAX, u64::MAX, 100).await, [u64::MAX]);
    assert_eq!(sorts(engine, 0, 0, 100).await, [0]);
    assert_eq!(sorts(engine, 65_536, u64::MAX - 1, 100).await, [1 << 40, u64::MAX - 1]);
    assert_eq!(sorts(engine, 5, 4, 100).await, Vec::<u64>::new());
    let edges = vec![key(Table::Dentry, 7, 0), key(Table::Dentry, 7, u64::MAX), key(Table::Dentry, 7, 2)];
    let read = engine.load(edges).await.unwrap();
    assert_eq!(read, vec![Some(0u64.to_le_bytes().to_vec()), Some(u64::MAX.to_le_bytes().to_vec()), None]);
}

async fn deleted_rows_are_gone_and_absent_ones_may_be_deleted(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    let edge = key(Table::Dentry, 7, u64::MAX);
    let kept = key(Table::Dentry, 7, u64::MAX - 1);
    commit(engine, lease.epoch, 1, vec![put(edge, b"x"), put(kept, b"y"), (inode(5), None)]).await;
    commit(engine, lease.epoch, 2, vec![(edge, None), (key(Table::Lock, 1, 1), None)]).await;
    assert_eq!(engine.load(vec![edge, kept]).await.unwrap(), vec![None, Some(b"y".to_vec())]);
    assert_eq!(sorts(engine, 0, u64::MAX, 10).await, [u64::MAX - 1]);
    assert_eq!(engine.partitions(Table::Lock, 0, 10).await.unwrap(), Vec::<u64>::new());
}

async fn values_are_any_bytes_up_to_300_kib_and_may_be_empty(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    let all_bytes: Vec<u8> = (0..=255).cycle().take(64 << 10).collect();
    let values = [
        Vec::new(),
        vec![0],
        b"\r\n$5\r\n".to_vec(),
        b"12345678".to_vec(),
        vec![0xff; 300],
        all_bytes,
        vec![0xfe; 300 << 10],
    ];
    let rows: Vec<_> = values.iter().enumerate().map(|(at, value)| put(inode(at as u64), value)).collect();
    let keys: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
    commit(engine, lease.epoch, 1, rows).await;
    let read: Vec<_> = engine.load(keys).await.unwrap().into_iter().map(Option::unwrap).collect();
    assert!(read == values);
    // Sorts whose bytes look like a number or a line end.
    let odd =
        [u64::from_be_bytes(*b"00000012"), u64::from_be_bytes(*b"12345678"), u64::from_be_bytes(*b"\r\n\r\n\r\n\r\n")];
    commit(engine, lease.epoch, 2, odd.iter().map(|sort| put(key(Table::Dentry, 7, *sort), b"")).collect()).await;
    assert_eq!(sorts(engine, 0, u64::MAX, 10).await.len(), odd.len());
    let read = engine.load(odd.iter().map(|sort| key(Table::Dentry, 7, *sort)).collect()).await.unwrap();
    assert_eq!(read, vec![Some(Vec::new()); odd.len()]);
}

async fn partitions_are_those_with_rows_in_order(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    let numbers = [0, 3, 256, 1 << 50, u64::MAX];
    let mut rows: Vec<_> = numbers.iter().map(|number| put(key(Table::Dentry, *number, 9), b"x")).collect();
    rows.push(put(key(Table::Dentry, 3, 10), b"second row of the partition"));
    rows.push(put(key(Table::Chunks, 5, 0), b"another table"));
    commit(engine, lease.epoch, 1, rows).await;
    assert_eq!(engine.partitions(Table::Dentry, 0, 100).await.unwrap(), numbers);
    assert_eq!(engine.partitions(Table::Dentry, 1, 2).await.unwrap(), [3, 256]);
    assert_eq!(engine.partitions(Table::Dentry, u64::MAX, 100).await.unwrap(), [u64::MAX]);
    commit(engine, lease.epoch, 2, vec![(key(Table::Dentry, 3, 9), None), (key(Table::Dentry, 256, 9), None)]).await;
    assert_eq!(engine.partitions(Table::Dentry, 0, 100).await.unwrap(), [0, 3, 1 << 50, u64::MAX]);
    commit(engine, lease.epoch, 3, vec![(key(Table::Dentry, 3, 10), None), put(key(Table::Dentry, 4, 0), b"")]).await;
    assert_eq!(engine.partitions(Table::Dentry, 1, 100).await.unwrap(), [4, 1 << 50, u64::MAX]);
}

async fn a_batch_of_fifty_thousand_rows_is_applied_whole(pair: Pair) {
    let engine = &*pair.first;
    let lease = take(engine, "a").await;
    let rows: Vec<_> =
        (0..50_000).map(|sort| put(key(Table::Dentry, 7 + sort / 40_000, sort), &sort.to_le_bytes())).collect();
    let keys: Vec<_> = rows.iter().map(|(key, _)| *key).collect();
    commit(engine, lease.epoch, 1, rows.clone()).await;
    commit(engine, lease.epoch, 2, rows).await;
    assert_eq!(sorts(engine, 0, u64::MAX, 60_000).await, (0..40_000).collect::<Vec<u64>>());
    let read = engine.load(keys.clone()).await.unwrap();
    assert!(read.iter().zip(0u64..).all(|(value, sort)| value.as_deref() == Some(&sort.to_le_bytes()[..])));
    commit(engine, lease.epoch, 3, keys.into_iter().map(|key| (key, None)).collect()).await;
    assert_eq!(engine.partitions(Table::Dentry, 0, 10).await.unwrap(), Vec::<u64>::new());
}

/// Xorshift: enough for a test, and the seed tells all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn key(&mut self) -> RowKey {
        let table = [Table::Inode, Table::Dentry, Table::Consumer][self.roll(3) as usize];
        let partition = [0, 1, 2, u64::MAX][self.roll(4) as usize];
        let sort = [self.roll(12), 250 + self.roll(12), u64::MAX - self.roll(4)][self.roll(3) as usize];
        key(table, partition, sort)
    }

    fn rows(&mut self) -> BTreeMap<RowKey, Option<Vec<u8>>> {
        let count = self.roll(30);
        (0..count)
            .map(|_| {
                let key = self.key();
                let length = self.roll(80) as usize;
                let value = (self.roll(3) > 0).then(|| vec![self.roll(256) as u8; length]);
                (key, value)
            })
            .collect()
    }
}

async fn a_random_history_matches_a_map(pair: Pair) {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut model: BTreeMap<RowKey, Vec<u8>> = BTreeMap::new();
    let mut lease = take(&*pair.first, "a").await;
    for number in 1..=150 {
        if dice.roll(10) == 0 {
            lease = take(&*pair.first, "a").await;
            assert_eq!(lease.last_batch, number - 1);
        }
        let rows = dice.rows();
        let new = rows.keys().filter(|key| !model.contains_key(key)).copied().filter(|_| dice.roll(2) > 0).collect();
        let batch = Batch { number, rows: rows.clone().into_iter().collect(), new };
        for _ in 0..=dice.roll(2) {
            pair.first.commit(lease.epoch, batch.clone(), Durability::Handed).await.unwrap();
        }
        for (key, value) in rows {
            match value {
                Some(value) => drop(model.insert(key, value)),
                None => drop(model.remove(&key)),
            }
        }
        check_against(&*pair.second, &model, &mut dice).await;
    }
}

async fn check_against(engine: &dyn Engine, model: &BTreeMap<RowKey, Vec<u8>>, dice: &mut Dice) {
    let asked: Vec<_> = (0..20).map(|_| dice.key()).collect();
    let expected: Vec<_> = asked.iter().map(|key| model.get(key).cloned()).collect();
    assert_eq!(engine.load(asked).await.unwrap(), expected);
    let (one, other) = (dice.key(), dice.key());
    let (from, to) = (one.sort.min(other.sort), one.sort.max(other.sort));
    let range = RowRange { table: one.table, partition: one.partition, from, to, limit: 1 + dice.roll(20) as usize };
    let bounds = RowKey { sort: from, ..one }..=RowKey { sort: to, ..one };
    let expected: Vec<_> = model.range(bounds).take(range.limit).map(|(key, value)| (*key, value.clone())).collect();
    assert_eq!(engine.list(range).await.unwrap(), expected);
    let (first, limit) = (dice.roll(3), 1 + dice.roll(5) as usize);
    let with_rows: BTreeSet<u64> =
        model.keys().filter(|key| key.table == one.table && key.partition >= first).map(|key| key.partition).collect();
    let expected: Vec<u64> = with_rows.into_iter().take(limit).collect();
    assert_eq!(engine.partitions(one.table, first, limit).await.unwrap(), expected);
}

/// The first poll of an embedded engine's future answers, without any runtime.
#[test]
fn futures_of_the_embedded_engine_are_ready_at_the_first_poll_without_a_runtime() {
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("the future waits"),
        }
    }
    let dir = TestDir::new("fjall-poll");
    let engine = FjallEngine::create(&dir.path().join("meta")).unwrap();
    let lease = now(engine.acquire("a".to_owned())).unwrap().unwrap();
    now(engine.commit(lease.epoch, batch(1, vec![put(inode(1), b"x")]), Durability::Handed)).unwrap();
    now(engine.commit(lease.epoch, batch(2, vec![]), Durability::Synced)).unwrap();
    assert_eq!(now(engine.load(vec![inode(1)])).unwrap(), vec![Some(b"x".to_vec())]);
    assert_eq!(now(engine.partitions(Table::Inode, 0, 9)).unwrap(), vec![0]);
    now(engine.renew(lease.epoch)).unwrap();
    now(engine.sync()).unwrap();
    assert_eq!((engine.describe(), engine.calls()), ("fjall (embedded)".to_owned(), 7));
}
