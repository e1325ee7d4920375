//! Promises of formatting, on the embedded engine.

use dgfs_proto::attr::Timestamp;
use dgfs_proto::class::Class;
use dgfs_proto::ids::Uuid;
use dgfs_proto::meta::VolumeInfo;

use super::{FORMAT, VOLUME_ROW, decode_volume, encode_volume, erase_volume, format_volume, read_volume};
use crate::engine::fjall::FjallEngine;
use crate::engine::testing::TestDir;
use crate::engine::{Batch, Durability, Engine, EngineError, RowKey, RowRange, Table};

fn volume(name: &str) -> VolumeInfo {
    VolumeInfo {
        uuid: Uuid([7; 16]),
        name: name.to_owned(),
        chunk_bytes: 4 << 20,
        inline_bytes_max: 4096,
        format: FORMAT,
        created: Timestamp::default(),
        initial_servers: 3,
    }
}

fn engine() -> (TestDir, FjallEngine) {
    let dir = TestDir::new("format");
    let engine = FjallEngine::create(&dir.path().join("meta")).unwrap();
    (dir, engine)
}

fn sentence<T: std::fmt::Debug>(outcome: Result<T, EngineError>) -> String {
    match outcome {
        Err(EngineError::Refused(sentence)) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_formatted_volume_is_read_back_and_leaves_the_lease_free() {
    let (_dir, engine) = engine();
    assert!(sentence(read_volume(&engine).await).contains("dgfs format"));
    format_volume(&engine, &volume("photos"), Class::SINGLE).await.unwrap();
    assert_eq!(read_volume(&engine).await, Ok(volume("photos")));
    let lease = engine.acquire("meta".to_owned()).await.unwrap().unwrap();
    assert_eq!(lease.last_batch, 1);
}

#[tokio::test]
async fn a_second_format_is_refused_and_the_volume_stays() {
    let (_dir, engine) = engine();
    format_volume(&engine, &volume("photos"), Class::SINGLE).await.unwrap();
    let refused = sentence(format_volume(&engine, &volume("other"), Class::SINGLE).await);
    assert!(refused.contains("\"photos\"") && refused.contains("--force"), "{refused}");
    assert_eq!(read_volume(&engine).await, Ok(volume("photos")));
}

#[tokio::test]
async fn a_running_service_keeps_format_out() {
    let (_dir, engine) = engine();
    let _lease = engine.acquire("meta".to_owned()).await.unwrap().unwrap();
    assert!(sentence(format_volume(&engine, &volume("photos"), Class::SINGLE).await).contains("stop it"));
}

#[tokio::test]
async fn erasing_leaves_no_row_and_makes_room_for_another_volume() {
    let (_dir, engine) = engine();
    format_volume(&engine, &volume("photos"), Class::SINGLE).await.unwrap();
    let lease = engine.acquire("meta".to_owned()).await.unwrap().unwrap();
    let key = |partition, sort| RowKey { table: Table::Dentry, partition, sort };
    let rows = (0..2500).map(|sort| (key(sort % 2, sort), Some(vec![1]))).collect();
    engine.commit(lease.epoch, Batch::of(lease.last_batch + 1, rows), Durability::Handed).await.unwrap();
    engine.release(lease.epoch).await.unwrap();
    erase_volume(&engine).await.unwrap();
    assert_eq!(engine.partitions(Table::Dentry, 0, 9).await, Ok(vec![]));
    let range = RowRange { table: Table::Volume, partition: 0, from: 0, to: u64::MAX, limit: 9 };
    assert_eq!(engine.list(range).await, Ok(vec![]));
    format_volume(&engine, &volume("music"), Class::SINGLE).await.unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number_and_rubbish_is_damage() {
    let (_dir, engine) = engine();
    let newer = VolumeInfo { format: 2, ..volume("photos") };
    format_volume(&engine, &newer, Class::SINGLE).await.unwrap();
    let refused = sentence(read_volume(&engine).await);
    assert_eq!(refused, "this volume has format 2; this dgfs knows 1: use a newer dgfs");
    assert!(sentence(format_volume(&engine, &volume("x"), Class::SINGLE).await).contains("already there"));
    let mut row = encode_volume(&volume("photos")).unwrap();
    row[0] = 7;
    assert!(sentence(decode_volume(&row)).contains("format 7"));
    for rubbish in [&[][..], &[1], &[1, 200, 200]] {
        assert!(matches!(decode_volume(rubbish), Err(EngineError::Damaged(_))));
    }
    assert_eq!(VOLUME_ROW.table, Table::Volume);
}
