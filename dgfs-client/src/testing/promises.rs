//! What the client library promises beyond plain data: sharing, fencing, budgets, errors, round trips.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::ids::Ino;
use dgfs_proto::meta::{Caller, NewNode, RemoveKind, SetAttr, SetTime};
use dgfs_proto::status::Status;

use crate::config::VfsConfig;
use crate::metrics::MetaKind;
use crate::testing::fake_meta::CHUNK;
use crate::testing::mounts::{Cluster, READ_WRITE, create, create_named, name, read_all};
use crate::vfs::{Access, OpenFlags, Vfs};

const APPEND: OpenFlags = OpenFlags { append: true, ..READ_WRITE };

async fn append_records(vfs: Arc<Vfs>, ino: Ino, who: u8, records: u32) {
    let handle = vfs.open(ino, APPEND).await.unwrap().handle;
    for number in 0..records {
        // Records of many lengths, so that some cross chunk borders.
        let mut record = vec![who; 200 + (number as usize * 37) % 3000];
        record[0] = b'[';
        *record.last_mut().unwrap() = b']';
        let len = record.len() as u32;
        assert_eq!(vfs.write(handle, 0, Bytes::from(record)).await, Ok(len));
    }
    vfs.flush(handle, 1).await.unwrap();
    vfs.release(handle, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_two_mounts_lose_no_record() {
    let cluster = Cluster::new(1);
    let (one, two) = (cluster.mount(|_| {}).await, cluster.mount(|_| {}).await);
    let (ino, handle) = create(&one, "log").await;
    let tasks = [
        tokio::spawn(append_records(Arc::clone(&one), ino, b'a', 150)),
        tokio::spawn(append_records(Arc::clone(&two), ino, b'b', 150)),
    ];
    for task in tasks {
        task.await.unwrap();
    }
    let bytes = read_all(&one, handle).await;
    let expected: usize = (0..150).map(|number| 200 + (number * 37) % 3000).sum();
    assert_eq!(bytes.len(), 2 * expected);
    assert_eq!(bytes.iter().filter(|byte| **byte == b'[').count(), 300);
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b']').unwrap();
        assert_eq!(rest[0], b'[');
        assert!(rest[1..end].iter().all(|byte| *byte == rest[1]), "a record is torn");
        rest = &rest[end + 1..];
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_closed_on_one_mount_is_read_by_an_open_on_another() {
    let cluster = Cluster::new(1);
    let one = cluster.mount(|_| {}).await;
    let (ino, writer) = create(&one, "file").await;
    assert_eq!(one.write(writer, 0, Bytes::from(vec![1; 100_000])).await, Ok(100_000));
    // The second mount makes the first one send everything and drop its caches.
    let two = cluster.mount(|_| {}).await;
    let reader = two.open(ino, READ_WRITE).await.unwrap();
    assert!(!reader.keep_cache);
    assert_eq!(read_all(&two, reader.handle).await, vec![1; 100_000]);
    assert_eq!(one.write(writer, 5, Bytes::from_static(b"new")).await, Ok(3));
    one.flush(writer, 1).await.unwrap();
    let again = two.open(ino, READ_WRITE).await.unwrap().handle;
    assert_eq!(&two.read(again, 4, 5).await.unwrap()[..], b"\x01new\x01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_chunk_from_two_mounts_keep_each_others_bytes() {
    let cluster = Cluster::new(1);
    let (one, two) = (cluster.mount(|_| {}).await, cluster.mount(|_| {}).await);
    let (ino, first) = create(&one, "file").await;
    assert_eq!(one.write(first, 0, Bytes::from(vec![9; 3 * CHUNK as usize])).await, Ok(3 * CHUNK));
    one.flush(first, 1).await.unwrap();
    let second = two.open(ino, READ_WRITE).await.unwrap().handle;
    let write = |vfs: Arc<Vfs>, handle, who: u8| async move {
        for at in 0..60_u64 {
            let offset = at * 500 + u64::from(who) * 250;
            assert_eq!(vfs.write(handle, offset, Bytes::from(vec![who; 250])).await, Ok(250));
            vfs.flush(handle, 1).await.unwrap();
        }
    };
    let tasks = [tokio::spawn(write(Arc::clone(&one), first, 0)), tokio::spawn(write(Arc::clone(&two), second, 1))];
    for task in tasks {
        task.await.unwrap();
    }
    let reader = two.open(ino, READ_WRITE).await.unwrap().handle;
    let bytes = read_all(&two, reader).await;
    for at in 0..60 {
        assert!(bytes[at * 500..at * 500 + 250].iter().all(|byte| *byte == 0));
        assert!(bytes[at * 500 + 250..at * 500 + 500].iter().all(|byte| *byte == 1));
    }
    assert!(bytes[30_000..].iter().all(|byte| *byte == 9));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_mount_answers_stale_for_everything() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from_static(b"lost")).await, Ok(4));
    cluster.meta.end_sessions();
    assert_eq!(vfs.fsync(handle, false).await, Err(Status::Stale));
    assert_eq!(vfs.write_now(handle, 0, b"more"), Some(Err(Status::Stale)));
    assert_eq!(vfs.getattr(ino).await, Err(Status::Stale));
    assert!(vfs.is_fenced());
    let numbers = vfs.numbers();
    assert_eq!((numbers.dirty_bytes, numbers.meta_silent_ms), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_error_is_reported_once_by_each_handle() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, first) = create(&vfs, "file").await;
    let second = vfs.open(ino, READ_WRITE).await.unwrap().handle;
    *cluster.store.full.lock() = true;
    assert_eq!(vfs.write(first, 0, Bytes::from(vec![1; 10_000])).await, Ok(10_000));
    assert_eq!(vfs.fsync(first, false).await, Err(Status::NoSpace));
    assert_eq!(vfs.fsync(first, false).await, Ok(()));
    assert_eq!(vfs.flush(second, 1).await, Err(Status::NoSpace));
    assert_eq!(vfs.flush(second, 1).await, Ok(()));
    assert_eq!(vfs.getattr(ino).await.unwrap().attr.size, 0);
    *cluster.store.full.lock() = false;
    assert_eq!(vfs.write(first, 0, Bytes::from(vec![1; 10_000])).await, Ok(10_000));
    assert_eq!(vfs.fsync(first, false).await, Ok(()));
}

/// The kernel splits a long write and drops the error of a part that is not the first: it must not have been the only report.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_error_that_a_write_reported_is_reported_by_fsync_too() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, first) = create(&vfs, "file").await;
    let second = vfs.open(ino, READ_WRITE).await.unwrap().handle;
    *cluster.store.full.lock() = true;
    assert_eq!(vfs.write(first, 0, Bytes::from(vec![1; 10_000])).await, Ok(10_000));
    assert_eq!(vfs.flush(second, 1).await, Err(Status::NoSpace));
    *cluster.store.full.lock() = false;
    assert_eq!(vfs.write(first, 10_000, Bytes::from(vec![2; 10_000])).await, Err(Status::NoSpace));
    assert_eq!(vfs.write(first, 10_000, Bytes::from(vec![2; 10_000])).await, Ok(10_000));
    assert_eq!(vfs.fsync(first, false).await, Err(Status::NoSpace));
    assert_eq!(vfs.fsync(first, false).await, Ok(()));
    assert_eq!(vfs.flush(first, 1).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_survive_an_outage_on_a_hard_mount_and_fail_at_once_on_a_soft_one() {
    let cluster = Cluster::new(1);
    let hard = cluster.mount(|_| {}).await;
    let (ino, handle) = create(&hard, "file").await;
    assert_eq!(hard.write(handle, 0, Bytes::from(vec![3; 50_000])).await, Ok(50_000));
    cluster.meta_faults.down.store(true, Ordering::Release);
    let waiting = {
        let hard = Arc::clone(&hard);
        tokio::spawn(async move { hard.fsync(handle, false).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    // What is not sent yet stays readable.
    assert_eq!(hard.read(handle, 0, 10).await.unwrap(), vec![3; 10]);
    cluster.meta_faults.down.store(false, Ordering::Release);
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let soft = cluster.mount(|config| config.soft = true).await;
    let handle = soft.open(ino, READ_WRITE).await.unwrap().handle;
    assert_eq!(soft.write(handle, 0, Bytes::from(vec![4; 10])).await, Ok(10));
    cluster.meta_faults.down.store(true, Ordering::Release);
    assert_eq!(soft.fsync(handle, false).await, Err(Status::Unavailable));
    cluster.meta_faults.down.store(false, Ordering::Release);
    assert_eq!(soft.fsync(handle, false).await, Ok(()));
    assert_eq!(soft.read(handle, 0, 11).await.unwrap(), [vec![4; 10], vec![3]].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequential_writes_stay_within_the_budget() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|config| config.write_back_bytes = 9 << 20).await;
    let (_, handle) = create(&vfs, "file").await;
    let part = Bytes::from(vec![5; 1 << 20]);
    for at in 0..64_u64 {
        assert_eq!(vfs.write(handle, at << 20, part.clone()).await, Ok(1 << 20));
        assert!(vfs.numbers().dirty_bytes <= 11 << 20);
    }
    vfs.fsync(handle, false).await.unwrap();
    assert_eq!(vfs.numbers().dirty_bytes, 0);
    assert!(read_all(&vfs, handle).await.iter().all(|byte| *byte == 5));
}

#[tokio::test]
async fn in_process_operations_are_ready_at_the_first_poll() {
    let cluster = Cluster::new(1);
    let embedded = |config: &mut VfsConfig| *config = VfsConfig::embedded(config.client.clone());
    let vfs = cluster.mount(embedded).await;
    let (ino, handle) = create(&vfs, "file").now_or_never().unwrap();
    assert_eq!(vfs.write_now(handle, 0, &[1; 100_000]), Some(Ok(100_000)));
    assert_eq!(vfs.getattr(ino).now_or_never().unwrap().unwrap().attr.size, 100_000);
    assert_eq!(vfs.flush(handle, 1).now_or_never(), Some(Ok(())));
    assert_eq!(vfs.read(handle, 0, 100_000).now_or_never().unwrap().unwrap().len(), 100_000);
    let set = SetAttr { size: Some(70_000), ..SetAttr::default() };
    assert_eq!(vfs.setattr(ino, set).now_or_never().unwrap().unwrap().attr.size, 70_000);
    assert_eq!(vfs.release(handle, None).now_or_never(), Some(()));
    let opened = vfs.open(ino, READ_WRITE).now_or_never().unwrap().unwrap();
    assert!(opened.keep_cache && !opened.direct_io);
    assert_eq!(vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).now_or_never(), Some(Ok(())));
    assert_eq!(vfs.fsync(opened.handle, false).now_or_never(), Some(Ok(())));
}

#[tokio::test]
async fn in_process_operations_end_by_their_deadline_too() {
    let cluster = Cluster::new(1);
    let embedded = |config: &mut VfsConfig| {
        *config = VfsConfig::embedded(config.client.clone());
        config.deadline = Duration::from_millis(200);
    };
    let vfs = cluster.mount(embedded).await;
    let (_, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from(vec![1; 100])).await, Ok(100));
    cluster.meta_faults.stuck.store(true, Ordering::Release);
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await, Err(Status::Unavailable));
    assert_eq!(vfs.flush(handle, 1).await, Err(Status::Unavailable));
    cluster.meta_faults.stuck.store(false, Ordering::Release);
    assert_eq!(vfs.flush(handle, 1).await, Ok(()));
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr.unwrap().size, 100);
}

/// Makes files until one is made ahead of meta: from then on, names that are looked up first are.
async fn keep_back(vfs: &Arc<Vfs>) {
    for at in 0.. {
        let name = name(&format!("first{at}"));
        assert_eq!(vfs.lookup(Ino::ROOT, name.clone()).await.unwrap().attr, None);
        let before = vfs.numbers().kept_back;
        let handle = create_named(vfs, name).await.1;
        vfs.release(handle, None).await;
        if vfs.numbers().kept_back > before {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_small_file_is_created_written_and_closed_in_one_round_trip() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    keep_back(&vfs).await;
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr, None);
    let before = vfs.round_trips();
    let (_, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from(vec![1; 4096])).await, Ok(4096));
    vfs.flush(handle, 1).await.unwrap();
    let after = vfs.round_trips();
    assert_eq!(after.meta_total() - before.meta_total(), 1);
    assert_eq!(after.meta_calls(MetaKind::KeptBack) - before.meta_calls(MetaKind::KeptBack), 1);
    assert!(after.chunk.iter().all(|(_, calls)| *calls == 0));
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr.unwrap().size, 4096);
    assert_eq!(vfs.round_trips().meta_total(), after.meta_total());
}

/// What is told as done while meta is away is not told to be durable, and reaches it when it is back; another mount that joins
/// sees it.
#[tokio::test]
async fn changes_made_ahead_reach_meta_in_their_order_before_anybody_else_can_look() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|config| config.deadline = Duration::from_millis(200)).await;
    keep_back(&vfs).await;
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr, None);
    cluster.meta_faults.down.store(true, Ordering::Release);
    let (ino, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.fsync(handle, false).await, Err(Status::Unavailable), "nobody has heard of it");
    cluster.meta_faults.down.store(false, Ordering::Release);
    let other = cluster.mount(|_| {}).await;
    let seen = other.lookup(Ino::ROOT, name("file")).await.unwrap().attr.unwrap();
    assert_eq!(seen.ino, ino);
    assert_eq!(vfs.fsync(handle, false).await, Ok(()));
    assert_eq!((vfs.numbers().kept_refused, vfs.numbers().kept_otherwise), (0, 0));
}

/// A change that was told as done and then refused is an error of every handle's next fsync, once.
#[tokio::test]
async fn a_change_made_ahead_that_is_refused_is_an_error_of_the_next_fsync() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    keep_back(&vfs).await;
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr, None);
    let directory = vfs.opendir(Ino::ROOT).await.unwrap();
    cluster.meta.refuse_next(Status::NoSpace);
    let (_, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.fsync(handle, false).await, Err(Status::NoSpace));
    assert_eq!(vfs.fsyncdir(directory).await, Err(Status::NoSpace));
    assert_eq!(vfs.fsyncdir(directory).await, Ok(()), "it is reported once");
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr, None, "it was not made");
    assert_eq!(vfs.numbers().kept_refused, 1);
    let later = vfs.opendir(Ino::ROOT).await.unwrap();
    assert_eq!(vfs.fsyncdir(later).await, Ok(()), "who comes later has lost nothing");
}

/// The file is what it was, and can be written again.
#[tokio::test]
async fn a_small_file_whose_content_was_refused_later_is_as_it_was_before() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    keep_back(&vfs).await;
    let (_, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from_static(b"first")).await, Ok(5));
    assert_eq!(vfs.fsync(handle, false).await, Ok(()));
    assert_eq!(vfs.write(handle, 0, Bytes::from_static(b"second, refused")).await, Ok(15));
    cluster.meta.refuse_next(Status::NoSpace);
    assert_eq!(vfs.fsync(handle, false).await, Err(Status::NoSpace));
    assert_eq!(read_all(&vfs, handle).await, b"first");
    assert_eq!(vfs.write(handle, 5, Bytes::from_static(b" third")).await, Ok(6));
    assert_eq!(vfs.fsync(handle, false).await, Ok(()));
    assert_eq!(read_all(&vfs, handle).await, b"first third");
    assert_eq!((vfs.numbers().kept_refused, vfs.numbers().kept_otherwise), (1, 0));
}

/// What comes next starts from what is there, not from what was refused.
#[tokio::test]
async fn an_append_after_content_was_refused_goes_to_the_end_that_is_there() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    keep_back(&vfs).await;
    let (ino, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from_static(b"first")).await, Ok(5));
    assert_eq!(vfs.fsync(handle, false).await, Ok(()));
    let append = vfs.open(ino, APPEND).await.unwrap().handle;
    assert_eq!(vfs.write(handle, 5, Bytes::from(vec![b'x'; 1000])).await, Ok(1000));
    cluster.meta.refuse_next(Status::NoSpace);
    assert_eq!(vfs.fsync(handle, false).await, Err(Status::NoSpace));
    assert_eq!(vfs.fsync(append, false).await, Err(Status::NoSpace), "each handle hears of it");
    assert_eq!(vfs.write(append, 0, Bytes::from_static(b" second")).await, Ok(7));
    assert_eq!(vfs.fsync(append, false).await, Ok(()));
    assert_eq!(read_all(&vfs, handle).await, b"first second");
    assert_eq!(vfs.getattr(ino).await.unwrap().attr.size, 12);
}

#[tokio::test]
async fn a_time_set_after_a_write_outlives_the_flush() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from(vec![1; 9000])).await, Ok(9000));
    let time = Timestamp { secs: 77, nanos: 5 };
    let set = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
    assert_eq!(vfs.setattr(ino, set).await.unwrap().attr.mtime, time);
    vfs.flush(handle, 1).await.unwrap();
    assert_eq!(vfs.getattr(ino).await.unwrap().attr.mtime, time);
}

#[tokio::test]
async fn a_mount_that_is_alone_opens_known_files_without_asking_and_tells_meta_before_it_matters() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, first) = create(&vfs, "file").await;
    let opens = |vfs: &Vfs| vfs.round_trips().meta_calls(MetaKind::Open);
    let reader = vfs.open(ino, READ_WRITE).await.unwrap().handle;
    assert_eq!(opens(&vfs), 0);
    // Another mount joins: from now on it may remove what is open here.
    let two = cluster.mount(|_| {}).await;
    assert_eq!(opens(&vfs), 1, "both opens in one message");
    let shared = vfs.open(ino, READ_WRITE).await.unwrap().handle;
    assert_eq!(opens(&vfs), 2);
    for handle in [first, reader, shared] {
        vfs.release(handle, None).await;
    }
    drop(two);

    let cluster = Cluster::new(2);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, handle) = create(&vfs, "file").await;
    vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).await.unwrap();
    assert_eq!(opens(&vfs), 1, "an open file that loses its name is registered first");
    assert!(vfs.open(ino, READ_WRITE).await.is_ok() && opens(&vfs) == 2);
    vfs.release(handle, None).await;
}

/// Two closes side by side leave its unsent bytes to the next round, which finds the file gone: nobody can miss them.
#[tokio::test]
async fn unsent_bytes_of_a_file_without_a_name_that_was_closed_are_no_error_of_the_mount() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, handle) = create(&vfs, "file").await;
    vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).await.unwrap();
    assert_eq!(vfs.write(handle, 0, Bytes::from(vec![3; 50_000])).await, Ok(50_000));
    let file = Arc::clone(&vfs.core.handles.file(handle).unwrap().file);
    {
        let _sending = file.flush.lock().await;
        vfs.release(handle, None).await;
    }
    assert!(file.inner.lock().is_dirty(), "{ino:?} was being sent: its bytes are not thrown away");
    vfs.core.send_releases(&vfs.core.op()).await;
    assert_eq!(vfs.close().await, Ok(()));
}

/// Its number would otherwise keep meta from forgetting answers, until it has no room for more.
#[tokio::test]
async fn a_registration_that_was_not_answered_is_brought_to_its_end() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|config| config.soft = true).await;
    let (_, handle) = create(&vfs, "file").await;
    cluster.meta_faults.down.store(true, Ordering::Release);
    let removed = vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).await;
    assert_eq!(removed, Err(Status::Unavailable));
    let ledger = &vfs.core.link.ledger;
    assert!(vfs.core.registering.lock().await.is_some() && ledger.is_telling(None));
    cluster.meta_faults.down.store(false, Ordering::Release);
    vfs.release(handle, None).await;
    vfs.core.send_releases(&vfs.core.op()).await;
    assert!(vfs.core.registering.lock().await.is_none() && !ledger.is_telling(None));
    assert_eq!(ledger.take_all().all, vec![], "registered, then released");
    vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_opened_without_asking_is_readable_when_metadata_go_away_before_its_first_read() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (_, handle) = create(&vfs, "file").await;
    assert_eq!(vfs.write(handle, 0, Bytes::from(vec![3; 50_000])).await, Ok(50_000));
    vfs.flush(handle, 1).await.unwrap();
    vfs.release(handle, None).await;
    vfs.close().await.unwrap();
    let vfs = cluster.mount(|_| {}).await;
    let ino = vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr.unwrap().ino;
    let handle = vfs.open(ino, READ_WRITE).await.unwrap().handle;
    assert_eq!(vfs.round_trips().meta_calls(MetaKind::Open), 0);
    let file = Arc::clone(&vfs.core.handles.file(handle).unwrap().file);
    let asked = async {
        while file.inner.lock().unknown().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("its content is asked for unasked");
    cluster.meta_faults.down.store(true, Ordering::Release);
    assert_eq!(read_all(&vfs, handle).await, vec![3; 50_000]);
}

#[tokio::test]
async fn a_change_of_names_that_failed_leaves_other_files_readable_while_metadata_are_away() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|config| config.soft = true).await;
    let (ino, _) = create(&vfs, "file").await;
    let (other, handle) = create(&vfs, "other").await;
    vfs.release(handle, None).await;
    cluster.meta_faults.down.store(true, Ordering::Release);
    let access = Access { mode: 0o644, umask: 0, caller: Caller::default() };
    let made = vfs.make(Ino::ROOT, name("dir"), NewNode::Directory, access).await;
    assert_eq!(made.map(drop), Err(Status::Unavailable));
    let removed = vfs.remove(Ino::ROOT, name("other"), RemoveKind::Unlink).await;
    assert_eq!(removed, Err(Status::Unavailable));
    assert_eq!(vfs.getattr(ino).await.map(drop), Ok(()));
    assert_eq!(vfs.getattr(other).await.map(drop), Err(Status::Unavailable), "it may be gone");
}

#[tokio::test]
async fn an_own_change_of_names_leaves_nothing_to_ask() {
    let cluster = Cluster::new(1);
    let vfs = cluster.mount(|_| {}).await;
    let (ino, _) = create(&vfs, "file").await;
    let before = vfs.round_trips().meta_total();
    assert_eq!(vfs.getattr(Ino::ROOT).await.unwrap().attr.ino, Ino::ROOT);
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.unwrap().attr.unwrap().ino, ino);
    assert_eq!(vfs.round_trips().meta_total(), before);
    vfs.remove(Ino::ROOT, name("file"), RemoveKind::Unlink).await.unwrap();
    let before = vfs.round_trips().meta_total();
    assert_eq!(vfs.lookup(Ino::ROOT, name("file")).await.map(|looked| looked.attr), Ok(None));
    assert_eq!(vfs.getattr(Ino::ROOT).await.unwrap().attr.ino, Ino::ROOT);
    assert_eq!(vfs.round_trips().meta_total(), before);
}
