//! Who may cache, across the takeover of another writer.

use super::{
    BTreeMap, Bench, ClientInfo, Core, Epoch, JournalRow, MetaReply, OpenRequest, Row, RowKey, SessionId, SettingsRow,
    Snapshot, Status, Table, Timestamp, WriterLease,
};
use dgfs_proto::meta::Notice;

const BIG: usize = 64 << 20;

/// The sessions that an engine holds.
fn stored(rows: &BTreeMap<RowKey, Vec<u8>>) -> Vec<crate::rows::SessionRow> {
    let of_sessions = rows.iter().filter(|(key, _)| key.table == Table::Session);
    of_sessions
        .map(|(key, bytes)| match Row::decode(*key, bytes).unwrap() {
            Row::Session(row) => row,
            other => panic!("not a session: {other:?}"),
        })
        .collect()
}

/// Another writer takes over: all it knows is what was committed.
fn take_over(bench: &mut Bench, epoch: u64) {
    let snapshot = Snapshot {
        volume: bench.core.volume.clone(),
        counters: bench.core.counters,
        settings: SettingsRow::clone(&bench.core.settings),
        cluster: super::one_server(),
        sessions: stored(&bench.rows),
        answers: Vec::new(),
        consumers: Vec::new(),
        orphans: Vec::new(),
        locks: Vec::new(),
        journal: JournalRow::default(),
        announced: BTreeMap::new(),
    };
    let lease = WriterLease { epoch: Epoch(epoch), last_batch: 1000 * epoch };
    bench.core = Core::new(snapshot, lease, BIG, Timestamp::from_ms(bench.now_ms));
}

fn open(bench: &mut Bench, key: u64, resume: Option<SessionId>) -> Result<SessionId, Status> {
    let request = OpenRequest { client: ClientInfo::default(), key, resume, opens: Vec::new() };
    let opened = bench.core.open_session(Timestamp::from_ms(bench.now_ms), request).map(|(id, _)| id);
    bench.commit();
    opened
}

fn key(bench: &Bench, id: SessionId) -> u64 {
    bench.core.sessions[&id].row.key
}

/// It carries out whatever it is told.
fn obey(bench: &mut Bench, id: SessionId, done: u64) -> u64 {
    bench.core.notice(id, done).map_or(done, |(number, _)| {
        assert_eq!(bench.core.notice(id, number), None);
        number
    })
}

/// The bug: the new writer took the numbers of its own first notices for carried out, so a session opened at once read
/// and wrote beside one that still cached as the only one.
#[test]
fn after_a_takeover_a_session_starts_only_when_the_surviving_sole_one_dropped_its_caches() {
    let mut bench = Bench::new(BIG);
    let first = bench.session;
    take_over(&mut bench, 2);
    let second = bench.open_session();
    assert_eq!(bench.core.may_start(second), None);
    // What it carried out for the writer before does not count.
    let (number, notice) = bench.core.notice(first, 1 << 32 | 1).unwrap();
    assert_eq!(notice, Notice::Shared);
    assert_eq!(bench.core.may_start(second), None);
    assert_eq!(bench.core.notice(first, number), None);
    assert_eq!(bench.core.may_start(second), Some(false));
}

#[test]
fn notices_of_a_later_writer_have_greater_numbers_than_all_before() {
    let mut bench = Bench::new(BIG);
    let first = bench.session;
    let mut done = 0;
    for epoch in 2..5 {
        take_over(&mut bench, epoch);
        let (number, notice) = bench.core.notice(first, done).unwrap();
        assert_eq!(notice, Notice::Sole, "it is the only one");
        assert!(number > done);
        let other = bench.open_session();
        done = obey(&mut bench, first, number);
        assert!(done > number);
        assert_eq!(bench.core.may_start(other), Some(false));
        let time = Timestamp::from_ms(bench.now_ms);
        let _: MetaReply = bench.settle(|core, _| core.end_session(time, other));
        done = obey(&mut bench, first, done);
    }
}

#[test]
fn several_survivors_are_told_that_they_share_and_go_on_without_waiting_for_each_other() {
    let mut bench = Bench::new(BIG);
    let first = bench.session;
    let second = bench.open_session();
    let keys = [first, second].map(|id| (id, key(&bench, id)));
    take_over(&mut bench, 2);
    for (id, key) in keys {
        assert_eq!(open(&mut bench, key, Some(id)), Ok(id));
        assert!(!bench.core.is_sole(id));
        assert_eq!(bench.core.notice(id, 0).unwrap().1, Notice::Shared);
    }
    assert_eq!(open(&mut bench, 4711, Some(first)), Err(Status::Stale), "the key proves whose it is");
}

#[test]
fn a_survivor_that_is_alone_stays_sole() {
    let mut bench = Bench::new(BIG);
    let (first, key) = (bench.session, key(&bench, bench.session));
    take_over(&mut bench, 2);
    assert_eq!(open(&mut bench, key, Some(first)), Ok(first));
    assert!(bench.core.is_sole(first));
}

#[test]
fn opening_again_after_a_lost_answer_gives_the_same_session() {
    let mut bench = Bench::new(BIG);
    let second = open(&mut bench, 77, None).unwrap();
    assert_eq!(open(&mut bench, 77, None), Ok(second));
    let third = open(&mut bench, 78, None).unwrap();
    take_over(&mut bench, 2);
    assert_eq!(open(&mut bench, 77, None), Ok(second));
    assert_eq!(open(&mut bench, 78, None), Ok(third));
    assert_eq!(bench.core.sessions.len(), 3);
    // They do not wait for each other, only for the one that may cache.
    assert_eq!((bench.core.may_start(second), bench.core.may_start(third)), (None, None));
    let first = bench.session;
    obey(&mut bench, first, 0);
    assert_eq!((bench.core.may_start(second), bench.core.may_start(third)), (Some(false), Some(false)));
}

#[test]
fn opening_again_does_not_vouch_for_a_session_that_is_in_use() {
    let mut bench = Bench::new(BIG);
    let (first, key) = (bench.session, key(&bench, bench.session));
    assert!(bench.core.touch(first, Timestamp::from_ms(bench.now_ms)));
    let second = bench.open_session();
    assert_eq!(open(&mut bench, key, None), Ok(first));
    assert_eq!(bench.core.may_start(second), None, "the first may cache still");
}

#[test]
fn a_number_that_was_never_given_is_not_carried_out() {
    let mut bench = Bench::new(BIG);
    let first = bench.session;
    let second = bench.open_session();
    assert!(bench.core.notice(first, u64::MAX).is_some());
    assert_eq!(bench.core.may_start(second), None);
}
