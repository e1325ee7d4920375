//! What a store counts and shows of its chunks and its disk.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest, UseOrder, UsesOf};
use dgfs_proto::class::Class;
use dgfs_proto::ids::{ChunkId, Epoch, Ino};
use dgfs_proto::limits::USES_MAX;
use dgfs_proto::status::Status;
use dgfs_runtime::channel::{Channel, ChunkProtocol, LocalChannel, Role};
use dgfs_runtime::metrics::MetricSet;

use super::room::{SmallDisk, fill_up};
use super::{TestDir, data_patch, id, open, put, put_of, read, reopen};
use crate::metrics::register;
use crate::pages::pages;
use crate::service::StoreService;
use crate::store::Store;
use crate::uses::Used;

/// Series that one storage daemon shows at most, however many chunks it has (OPERATIONS.md says it).
const SERIES_MAX: usize = 17_500;

fn shown(store: &Arc<Store>) -> String {
    let set = MetricSet::new();
    register(&set, store);
    set.render().unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {series} in {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn uses_survive_a_restart_and_a_kill_and_go_with_their_chunk() {
    let directory = TestDir::new();
    let store = open(directory.path());
    for chunk in 5..8 {
        put(&store, id(chunk, 1), None, 0, b"counted");
    }
    read(&store, id(5, 1), 7);
    let before = store.top_uses(UseOrder::Bytes, 10).unwrap();
    assert_eq!((before[0].chunk, before[0].reads, before[0].writes), (id(5, 1).chunk, 1, 1));
    assert_eq!((before[0].read_bytes, before[0].write_bytes, before[0].bytes), (7, 7, 7));
    assert_eq!((before[0].owner, before[0].index), (Ino::new(7), 3));
    let store = reopen(store);
    assert_eq!(store.top_uses(UseOrder::Bytes, 10).unwrap(), before);

    read(&store, id(6, 1), 7);
    put(&store, id(7, 2), Some((1, 7)), 0, b"new");
    store.drop_versions(&[id(7, 1), id(5, 1)]).unwrap();
    store.tend();
    let before = store.top_uses(UseOrder::Bytes, 10).unwrap();
    assert_eq!(before.iter().map(|row| row.chunk.get()).collect::<BTreeSet<_>>(), BTreeSet::from([6, 7]));
    // As a killed process leaves it: nothing is closed.
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.top_uses(UseOrder::Bytes, 10).unwrap(), before);
}

#[test]
fn a_damaged_chunk_is_first_by_errors() {
    let directory = TestDir::new();
    let store = open(directory.path());
    put(&store, id(1, 1), None, 0, &[1; 50_000]);
    put(&store, id(2, 1), None, 0, &[2; 50_000]);
    let store = reopen(store);
    super::damage::flip(&directory.path().join("segments/00000001.seg"), 30_000);
    assert_eq!(store.get(id(1, 1), 0, 50_000), Err(Status::Corrupt));
    assert_eq!(store.get(id(9, 1), 0, 1), Err(Status::NoVersion));
    let first = store.top_uses(UseOrder::Errors, 10).unwrap();
    assert_eq!(first.iter().map(|row| (row.chunk.get(), row.errors)).collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(value(&shown(&store), "dgfs_stored_chunk_operations_total{class=\"r1\",kind=\"error\"}"), 1.0);
}

#[test]
fn a_disk_that_turns_read_only_is_noticed_also_when_nobody_writes_and_so_is_its_return() {
    let Some(disk) = SmallDisk::new(64) else {
        println!("not run: no permission to mount");
        return;
    };
    let path = disk.0.join("store");
    let store = open(&path);
    let mount = |words: &[&str]| assert!(Command::new("mount").args(words).arg(&path).status().unwrap().success());
    let state = || {
        store.probe();
        let text = shown(&store);
        (value(&text, "dgfs_stored_disk_read_only"), value(&text, "dgfs_stored_disk_errors_total{kind=\"write\"}"))
    };
    assert_eq!(state(), (0.0, 0.0));
    // Over itself, so that what the store has open stays open for writing, which would keep the file system from it.
    mount(&["--bind", path.to_str().unwrap()]);
    mount(&["-o", "remount,bind,ro"]);
    assert_eq!(state(), (1.0, 1.0));
    assert_eq!(state(), (1.0, 2.0));
    assert!(Command::new("umount").arg(&path).status().unwrap().success());
    assert_eq!(state(), (0.0, 2.0));
}

#[test]
fn a_full_disk_moves_its_own_number_and_is_not_read_only() {
    let Some(disk) = SmallDisk::new(16) else {
        println!("not run: no permission to mount");
        return;
    };
    let store = open(&disk.0.join("store"));
    fill_up(&store, 1);
    let text = shown(&store);
    assert!(value(&text, "dgfs_stored_disk_errors_total{kind=\"full\"}") >= 1.0, "{text}");
    assert_eq!(value(&text, "dgfs_stored_disk_read_only"), 0.0);
    assert_eq!(value(&text, "dgfs_stored_disk_errors_total{kind=\"write\"}"), 0.0);
}

#[test]
fn dropped_bytes_are_waste_until_they_are_compacted() {
    let directory = TestDir::new();
    let store = open(directory.path());
    for version in 1..=40 {
        put(&store, id(version, version), None, 0, &[1; 100_000]);
    }
    store.checkpoint().unwrap();
    store.measure();
    assert!(value(&shown(&store), "dgfs_stored_waste_bytes") < 500_000.0);
    let gone: Vec<_> = (2..=38).map(|version| id(version, version)).collect();
    store.drop_versions(&gone).unwrap();
    assert!(value(&shown(&store), "dgfs_stored_waste_bytes") > 3_000_000.0);
    store.compact().unwrap();
    store.compact().unwrap();
    store.measure();
    assert!(value(&shown(&store), "dgfs_stored_waste_bytes") < 1_500_000.0, "{:?}", store.status());
}

/// A million chunks in all partitions of more classes than are counted by partition.
#[test]
fn a_million_chunks_make_no_more_series_than_stated() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let classes = ["r1", "r2", "r3", "ec:4+2", "r4", "ec:8+3"].map(|class| class.parse::<Class>().unwrap());
    for number in 1..=1_000_000 {
        let chunk = ChunkId::of(classes[(number / 4096) as usize % classes.len()], number).unwrap();
        store.count_use(chunk, 4096, Used::Written(4096));
        store.count_use(chunk, 4096, Used::Read(4096));
        store.count_use(chunk, 4096, Used::Failed);
    }
    store.tend();
    let text = shown(&store);
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    println!("{series} series, {} bytes", text.len());
    assert_eq!(value(&text, "dgfs_stored_counted_chunks"), 1_000_000.0);
    assert_eq!(value(&text, "dgfs_stored_working_set_chunks{window=\"5m\"}"), 1_000_000.0);
    assert_eq!(value(&text, "dgfs_stored_working_set_bytes{window=\"1d\"}"), 4_096_000_000.0);
    let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(count("dgfs_stored_partition_operations_total{"), 4 * 4096);
    assert_eq!(count("dgfs_stored_hot_chunk_operations_total{"), 60);
    assert_eq!(count("dgfs_stored_chunk_operations_total{"), classes.len() * 3);
    assert!(series < SERIES_MAX, "{series}");
}

fn call(request: ChunkRequest) -> ChunkCall {
    ChunkCall { request_id: 1, map_epoch: Epoch(0), session: None, request }
}

#[tokio::test]
async fn operators_alone_are_told_what_is_used_and_calls_are_counted_by_their_end() {
    let directory = TestDir::new();
    let store = open(directory.path());
    put(&store, id(1, 1), None, 0, b"some");
    let service = StoreService::new(Arc::clone(&store));
    let ask = async |role, request| {
        let channel = LocalChannel::<ChunkProtocol>::new(service.clone(), role);
        channel.call(call(request), Bytes::new(), None).await.unwrap().0
    };
    let top = |limit| ChunkRequest::Uses(UsesOf::Top { by: UseOrder::Writes, limit });
    for role in [Role::Stored, Role::Index, Role::Meta] {
        assert_eq!(ask(role, top(1)).await, ChunkReply::Refused(Status::Forbidden), "{role:?}");
    }
    let ChunkReply::Uses(uses) = ask(Role::Client, top(1)).await else { panic!("refused") };
    assert_eq!(uses.iter().map(|row| row.chunk).collect::<Vec<_>>(), [id(1, 1).chunk]);
    let chunks = vec![id(2, 1).chunk, id(1, 1).chunk];
    assert_eq!(ask(Role::Client, ChunkRequest::Uses(UsesOf::Chunks(chunks))).await, ChunkReply::Uses(uses));
    let too_many = UsesOf::Chunks(vec![id(1, 1).chunk; USES_MAX + 1]);
    for request in [top(0), top(USES_MAX as u32 + 1), ChunkRequest::Uses(too_many)] {
        assert_eq!(ask(Role::Client, request).await, ChunkReply::Refused(Status::Malformed));
    }
    let request = ChunkRequest::Get { id: id(9, 9), offset: 0, len: 1 };
    assert_eq!(ask(Role::Client, request).await, ChunkReply::Refused(Status::NoVersion));
    let text = shown(&store);
    assert_eq!(value(&text, "dgfs_stored_operation_seconds_count{op=\"uses\"}"), 8.0);
    assert_eq!(value(&text, "dgfs_stored_operation_errors_total{op=\"uses\",status=\"Malformed\"}"), 3.0);
    assert_eq!(value(&text, "dgfs_stored_operation_errors_total{op=\"uses\",status=\"Forbidden\"}"), 3.0);
    assert_eq!(value(&text, "dgfs_stored_operation_errors_total{op=\"get\",status=\"NoVersion\"}"), 1.0);
}

#[test]
fn the_page_tells_ids_and_counts_and_no_path() {
    let directory = TestDir::new();
    let store = open(directory.path());
    for chunk in 1..=30 {
        put(&store, id(chunk, 1), None, 0, &vec![1; chunk as usize]);
    }
    let pages = pages(&store);
    assert!(pages("/other", None).is_none());
    let page = |query| pages("/chunks", query).unwrap();
    let answer: serde_json::Value = serde_json::from_str(page(Some("by=bytes&limit=2")).body()).unwrap();
    assert_eq!(answer["by"], "bytes");
    let chunks = answer["chunks"].as_array().unwrap();
    assert_eq!(chunks.iter().map(|row| row["chunk"].as_u64().unwrap()).collect::<Vec<_>>(), [30, 29]);
    assert_eq!(chunks[0]["write_bytes"], 30);
    let all: serde_json::Value = serde_json::from_str(page(None).body()).unwrap();
    assert_eq!(all["chunks"].as_array().unwrap().len(), 20);
    assert_eq!(page(Some("by=colour")).status(), 400);
    drop(store);
    assert_eq!(page(None).status(), 503);
}

/// The disk gives back what its file has not: damage, which is not the disk's refusal.
#[test]
fn a_read_past_a_cut_file_is_no_error_of_the_disk() {
    let directory = TestDir::new();
    let store = open(directory.path());
    let request = put_of(id(1, 1), None, vec![data_patch(0, &[1; 50_000])]);
    store.put(&request, &Bytes::from(vec![1; 50_000])).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join("segments/00000001.seg")).unwrap();
    file.set_len(1000).unwrap();
    file.write_all_at(&[0], 0).unwrap();
    store.get(id(1, 1), 0, 50_000).unwrap_err();
    assert_eq!(value(&shown(&store), "dgfs_stored_disk_errors_total{kind=\"read\"}"), 0.0);
}
