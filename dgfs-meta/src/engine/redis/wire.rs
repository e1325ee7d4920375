//! Calls of our functions as Redis commands, and their answers as rows.
//!
//! Never sends anything. Always true: a member is `sort (8 bytes, big-endian) ++ value`,
//! numbers that are compared travel as 16 hex digits; an answer of another shape is an error.

use std::collections::BTreeMap;

use redis::{FromRedisValue, Pipeline, Value};

use crate::engine::{Batch, EngineError, EngineTime, RowKey, RowRange, Table};

/// How long a WAIT may take: less than the deadline of a call.
pub(super) const WAIT_MS: u64 = 4_000;

/// What a function that changes something said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    Taken { epoch: u64, last_batch: u64 },
    Held,
    Fenced { newer: u64 },
    Regressed { at: u64 },
}

/// A partition of a table.
pub(super) type Partition = (Table, u64);

/// The rows of one partition in a batch.
#[derive(Default)]
struct Group<'a> {
    /// Sorts of what is to go, or is replaced.
    removed: Vec<u8>,
    added: Vec<(u64, &'a [u8])>,
}

pub(super) fn acquire(writer_key: &str, holder: &str, token: &str, attempt: u64, lease_ms: u64) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_acquire_v2");
    call.arg(holder).arg(token).arg(attempt).arg(lease_ms);
    call
}

/// `dgfs_renew_v2` or `dgfs_release_v2`.
pub(super) fn keep(writer_key: &str, function: &str, epoch: u64, lease_ms: u64) -> Pipeline {
    let mut call = fcall(writer_key, function);
    call.arg(hex(epoch)).arg(lease_ms);
    call
}

pub(super) fn touch(writer_key: &str, mark: u64) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_touch_v2");
    call.arg(mark);
    call
}

/// A standby waits.
pub(super) fn wait_here(writer_key: &str, token: &str, who: &[u8]) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_wait_v2");
    call.arg(token).arg(who);
    call
}

/// Who waits, as far as they said so within `age_ms`.
pub(super) fn waiting(writer_key: &str, age_ms: u64, writer_ms: u64) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_waiting_v2");
    call.arg(age_ms).arg(writer_ms);
    call
}

/// The answer of [`wait_here`].
pub(super) fn time(answer: Value) -> Result<EngineTime, EngineError> {
    let parts: Vec<String> = read(answer)?;
    let now_ms = parts.first().and_then(|text| text.parse().ok()).ok_or_else(|| strange("no time"))?;
    Ok(EngineTime { now_ms, writer_ahead_ms: parts.get(1).and_then(|text| text.parse().ok()) })
}

/// The answer of [`waiting`].
pub(super) fn texts(answer: Value) -> Result<Vec<Vec<u8>>, EngineError> {
    read(answer)
}

/// Partitions for which `known` is true have rows.
pub(super) fn commit(writer_key: &str, epoch: u64, batch: &Batch, known: impl Fn(Partition) -> bool) -> Pipeline {
    let mut groups: BTreeMap<Partition, Group<'_>> = BTreeMap::new();
    for (key, value) in &batch.rows {
        let group = groups.entry((key.table, key.partition)).or_default();
        if value.is_none() || !batch.new.contains(key) {
            group.removed.extend_from_slice(&key.sort.to_be_bytes());
        }
        group.added.extend(value.as_ref().map(|value| (key.sort, value.as_slice())));
    }
    let mut call = fcall(writer_key, "dgfs_commit_v2");
    call.arg(hex(epoch)).arg(hex(batch.number)).arg(hex(batch.number.wrapping_sub(1)));
    let mut member = Vec::new();
    for ((table, partition), group) in groups {
        let has_rows = if known((table, partition)) { "1" } else { "" };
        call.arg(name(table, partition)).arg(has_rows).arg(group.removed.as_slice()).arg(group.added.len());
        for (sort, value) in group.added {
            member.clear();
            member.extend_from_slice(&sort.to_be_bytes());
            member.extend_from_slice(value);
            call.arg(member.as_slice());
        }
    }
    call
}

pub(super) fn load(writer_key: &str, keys: &[RowKey]) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_load_v2");
    for key in keys {
        call.arg(name(key.table, key.partition)).arg(key.sort.to_be_bytes().as_slice());
    }
    call
}

pub(super) fn list(writer_key: &str, range: RowRange) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_list_v2");
    call.arg(name(range.table, range.partition))
        .arg(range.from.to_be_bytes().as_slice())
        .arg(range.to.to_be_bytes().as_slice())
        .arg(limit(range.limit));
    call
}

pub(super) fn partitions(writer_key: &str, table: Table, from: u64, at_most: usize) -> Pipeline {
    let mut call = fcall(writer_key, "dgfs_partitions_v2");
    call.arg(table as u8).arg(hex(from)).arg(limit(at_most));
    call
}

pub(super) fn status(answer: Value) -> Result<Status, EngineError> {
    let parts: Vec<String> = read(answer)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["ok"] => Ok(Status::Done),
        ["ok", epoch, last_batch] => Ok(Status::Taken { epoch: unhex(epoch)?, last_batch: unhex(last_batch)? }),
        ["held"] => Ok(Status::Held),
        ["fenced", newer] => Ok(Status::Fenced { newer: unhex(newer)? }),
        ["regressed", at] => Ok(Status::Regressed { at: unhex(at)? }),
        other => Err(strange(&format!("{other:?}"))),
    }
}

/// Values in the order of `keys`.
pub(super) fn rows(answer: Value, keys: &[RowKey]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
    let members: Vec<Option<Vec<u8>>> = read(answer)?;
    if members.len() != keys.len() {
        return Err(strange(&format!("{} rows for {} keys", members.len(), keys.len())));
    }
    let value = |(key, member): (&RowKey, Option<Vec<u8>>)| match member.map(split).transpose()? {
        Some((sort, value)) if sort == key.sort => Ok(Some(value)),
        Some(_) => Err(strange("a row of another key")),
        None => Ok(None),
    };
    keys.iter().zip(members).map(value).collect()
}

pub(super) fn page(answer: Value, range: RowRange) -> Result<Vec<(RowKey, Vec<u8>)>, EngineError> {
    let members: Vec<Vec<u8>> = read(answer)?;
    let row = |member| {
        let (sort, value) = split(member)?;
        Ok((RowKey { table: range.table, partition: range.partition, sort }, value))
    };
    members.into_iter().map(row).collect()
}

/// A list of numbers in hex.
pub(super) fn numbers(answer: Value) -> Result<Vec<u64>, EngineError> {
    let texts: Vec<String> = read(answer)?;
    texts.iter().map(|text| unhex(text)).collect()
}

/// The answer of WAIT.
pub(super) fn count(answer: Value) -> Result<u64, EngineError> {
    read(answer)
}

/// The answer of WAITAOF: whether the server itself has synced.
pub(super) fn synced_here(answer: Value) -> Result<bool, EngineError> {
    let counts: Vec<u64> = read(answer)?;
    Ok(counts.first().is_some_and(|here| *here >= 1))
}

fn fcall(writer_key: &str, function: &str) -> Pipeline {
    let mut call = Pipeline::with_capacity(2);
    call.cmd("FCALL").arg(function).arg(1).arg(writer_key);
    call
}

fn name(table: Table, partition: u64) -> String {
    format!("{}:{}", table as u8, hex(partition))
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn unhex(text: &str) -> Result<u64, EngineError> {
    u64::from_str_radix(text, 16).map_err(|_| strange(&format!("{text:?} instead of a number")))
}

/// Redis takes limits below 2^63.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

fn split(mut member: Vec<u8>) -> Result<(u64, Vec<u8>), EngineError> {
    let Some((sort, _)) = member.split_first_chunk::<8>() else {
        return Err(strange("a row without its number"));
    };
    let sort = u64::from_be_bytes(*sort);
    member.drain(..8);
    Ok((sort, member))
}

fn read<T: FromRedisValue>(answer: Value) -> Result<T, EngineError> {
    T::from_redis_value(answer).map_err(|error| strange(&error.to_string()))
}

fn strange(what: &str) -> EngineError {
    EngineError::Damaged(format!("Redis answered {what}: something else writes to the keys of this volume"))
}
