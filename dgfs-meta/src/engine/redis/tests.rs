//! What only the Redis engine promises: refusals, outages, kill -9, the replica level.

use std::time::{Duration, Instant};

use super::{RedisDurability, RedisEngine};
use crate::engine::testing::RedisServer;
use crate::engine::{Batch, Durability, Engine, EngineError, RowKey, Table};

const EVERYSEC: RedisDurability = RedisDurability::Everysec;

fn row(sort: u64) -> RowKey {
    RowKey { table: Table::Inode, partition: sort / 64, sort }
}

fn one_row(number: u64) -> Batch {
    Batch::of(number, vec![(row(number), Some(number.to_le_bytes().to_vec()))])
}

async fn refusal(url: &str, durability: RedisDurability) -> String {
    match RedisEngine::connect(url, "vol", durability).await {
        Err(EngineError::Refused(sentence)) => sentence,
        Err(other) => panic!("not a refusal: {other:?}"),
        Ok(engine) => panic!("{} was accepted", engine.describe()),
    }
}

fn assert_says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "{sentence:?} does not say {part:?}");
    }
}

#[tokio::test]
async fn eviction_is_refused_with_the_mending_command_also_without_a_memory_limit() {
    let server = RedisServer::start(&["--maxmemory-policy", "allkeys-lru"]);
    let command = format!("redis-cli -h 127.0.0.1 -p {} CONFIG SET maxmemory-policy noeviction", server.port());
    assert_says(&refusal(&server.url(), RedisDurability::Always).await, &["allkeys-lru", &command]);
    // The command does mend it.
    assert!(server.command("CONFIG SET maxmemory-policy noeviction").starts_with("+OK"));
    RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
}

#[tokio::test]
async fn a_server_without_a_log_is_refused_with_the_mending_command() {
    let server = RedisServer::start(&["--appendonly", "no"]);
    assert_says(&refusal(&server.url(), EVERYSEC).await, &["appendonly no", "CONFIG SET appendonly yes"]);
    assert!(server.command("CONFIG SET appendonly yes").starts_with("+OK"));
    RedisEngine::connect(&server.url(), "vol", EVERYSEC).await.unwrap();
}

#[tokio::test]
async fn appendfsync_must_fit_the_level() {
    let server = RedisServer::start(&["--appendfsync", "everysec"]);
    let sentence = refusal(&server.url(), RedisDurability::Always).await;
    assert_says(&sentence, &["level is always", "appendfsync everysec", "CONFIG SET appendfsync always"]);
    RedisEngine::connect(&server.url(), "vol", EVERYSEC).await.unwrap();
    assert!(server.command("CONFIG SET appendfsync no").starts_with("+OK"));
    assert_says(&refusal(&server.url(), EVERYSEC).await, &["appendfsync no", "CONFIG SET appendfsync everysec"]);
    assert!(server.command("CONFIG SET appendfsync always").starts_with("+OK"));
    // More than asked is fine.
    RedisEngine::connect(&server.url(), "vol", EVERYSEC).await.unwrap();
}

#[tokio::test]
async fn a_missing_or_wrong_password_is_named_and_not_shown() {
    let server = RedisServer::start(&["--requirepass", "secret-a"]);
    let remedy = "does not take the password";
    assert_says(&refusal(&server.url(), RedisDurability::Always).await, &[remedy, "NOAUTH"]);
    let with = |password: &str| format!("redis://:{password}@127.0.0.1:{}/", server.port());
    let sentence = refusal(&with("secret-b"), RedisDurability::Always).await;
    assert_says(&sentence, &[remedy]);
    assert!(!sentence.contains("secret-b"), "{sentence}");
    RedisEngine::connect(&with("secret-a"), "vol", RedisDurability::Always).await.unwrap();
}

#[tokio::test]
async fn a_database_number_that_is_too_large_is_named() {
    let server = RedisServer::start(&[]);
    let url = format!("redis://127.0.0.1:{}/99", server.port());
    assert_says(&refusal(&url, RedisDurability::Always).await, &["no database of the number", "databases"]);
}

#[tokio::test]
async fn a_replica_is_refused_and_its_primary_named() {
    let primary = RedisServer::start(&[]);
    let of = primary.port().to_string();
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {of}")]);
    let sentence = refusal(&replica.url(), RedisDurability::Always).await;
    assert_says(&sentence, &["read-only replica", &format!("127.0.0.1:{of}")]);
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable_and_named() {
    let mut server = RedisServer::start(&[]);
    server.kill9();
    let outcome = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await;
    let Err(EngineError::Unavailable(sentence)) = outcome else { panic!("not unavailable") };
    assert_says(&sentence, &[&format!("127.0.0.1:{}", server.port())]);
}

#[tokio::test]
async fn a_useless_address_or_volume_name_is_refused() {
    assert_says(&refusal("http://example.org", EVERYSEC).await, &["redis://"]);
    for name in ["", "a b", "a}b", "a:b", &"x".repeat(65)] {
        let outcome = RedisEngine::connect("redis://127.0.0.1:1/", name, EVERYSEC).await;
        assert!(matches!(outcome, Err(EngineError::Refused(_))), "{name:?} was accepted");
    }
}

#[tokio::test]
async fn a_forbidden_config_is_a_warning_and_info_is_still_judged() {
    let user = ["--user", "default", "on", "nopass", "~*", "+@all", "-config"];
    let server = RedisServer::start(&user);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    assert_says(&engine.warnings().join(" "), &["CONFIG", "appendfsync is always"]);
    let server = RedisServer::start(&[&user[..], &["--appendonly", "no"]].concat());
    assert_says(&refusal(&server.url(), EVERYSEC).await, &["appendonly no"]);
}

#[tokio::test]
async fn a_renamed_config_is_a_warning() {
    let server = RedisServer::start(&["--rename-command", "CONFIG", ""]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    assert_says(&engine.warnings().join(" "), &["CONFIG"]);
}

#[tokio::test]
async fn the_rights_our_sentence_proposes_are_enough_and_less_is_refused() {
    let poor = RedisServer::start(&["--user", "default", "on", "nopass", "~*", "+@all", "-function", "-fcall"]);
    assert_says(&refusal(&poor.url(), EVERYSEC).await, &["ACL SETUSER"]);
    let rights = ["--user", "default", "on", "nopass", "~dgfs:*", "+@all", "-@dangerous", "+info", "+config|get"];
    let server = RedisServer::start(&rights);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    assert_eq!(engine.warnings(), Vec::<String>::new());
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    engine.commit(lease.epoch, one_row(1), Durability::Synced).await.unwrap();
    assert_eq!(engine.load(vec![row(1)]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_memory_says_no_space_and_keeps_the_lease() {
    let server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    assert!(server.command("CONFIG SET maxmemory 1").starts_with("+OK"));
    let full = engine.commit(lease.epoch, one_row(1), Durability::Handed).await;
    assert_eq!(full, Err(EngineError::NoSpace));
    engine.renew(lease.epoch).await.unwrap();
    assert!(server.command("CONFIG SET maxmemory 0").starts_with("+OK"));
    engine.commit(lease.epoch, one_row(1), Durability::Handed).await.unwrap();
}

#[tokio::test]
async fn flushed_functions_come_back_by_themselves() {
    let server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    assert!(server.command("FUNCTION FLUSH").starts_with("+OK"));
    engine.commit(lease.epoch, one_row(1), Durability::Handed).await.unwrap();
    assert!(server.command("FUNCTION FLUSH").starts_with("+OK"));
    assert_eq!(engine.load(vec![row(1)]).await.unwrap(), vec![Some(1u64.to_le_bytes().to_vec())]);
}

#[tokio::test]
async fn two_volumes_on_one_server_do_not_see_each_other() {
    let server = RedisServer::start(&[]);
    let one = RedisEngine::connect(&server.url(), "one", RedisDurability::Always).await.unwrap();
    let two = RedisEngine::connect(&server.url(), "two", RedisDurability::Always).await.unwrap();
    let lease = one.acquire("a".to_owned()).await.unwrap().unwrap();
    one.commit(lease.epoch, one_row(1), Durability::Handed).await.unwrap();
    assert!(two.acquire("b".to_owned()).await.unwrap().is_some());
    assert_eq!(two.load(vec![row(1)]).await.unwrap(), vec![None]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn kill_9_of_the_server_loses_nothing_that_was_answered() {
    let mut server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    let mut answered = 0;
    for round in 1..=3 {
        for _ in 0..round * 20 {
            engine.commit(lease.epoch, one_row(answered + 1), Durability::Handed).await.unwrap();
            answered += 1;
        }
        // One more is under way when the server dies; it may or may not be there.
        let last = engine.commit(lease.epoch, one_row(answered + 1), Durability::Handed);
        let last = tokio::spawn(last);
        server.kill9();
        drop(last.await.unwrap());
        let outage = engine.load(vec![row(1)]).await;
        assert!(matches!(outage, Err(EngineError::Unavailable(_))), "{outage:?}");
        server.restart();
        // The same engine goes on by itself; the repetition is applied once.
        engine.commit(lease.epoch, one_row(answered + 1), Durability::Handed).await.unwrap();
        answered += 1;
        let read = engine.load((1..=answered).map(row).collect()).await.unwrap();
        assert!(read.iter().zip(1u64..).all(|(value, number)| value.as_deref() == Some(&number.to_le_bytes()[..])));
    }
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_within_the_deadline_and_late_commits_do_no_harm() {
    let server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    server.stop();
    let asked = Instant::now();
    let outage = engine.commit(lease.epoch, one_row(1), Durability::Handed).await;
    assert!(matches!(outage, Err(EngineError::Unavailable(_))), "{outage:?}");
    assert!(asked.elapsed() < Duration::from_secs(8), "answered after {:?}", asked.elapsed());
    server.cont();
    // The first one is still in the server's socket and is done first; ours is a repetition.
    engine.commit(lease.epoch, one_row(1), Durability::Handed).await.unwrap();
    engine.commit(lease.epoch, one_row(2), Durability::Handed).await.unwrap();
    assert_eq!(engine.load(vec![row(1), row(2)]).await.unwrap().iter().flatten().count(), 2);
}

#[tokio::test]
async fn a_server_that_came_back_empty_is_regressed() {
    let mut server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    engine.commit(lease.epoch, one_row(1), Durability::Handed).await.unwrap();
    server.kill9();
    std::fs::remove_dir_all(server.dir().join("appendonlydir")).unwrap();
    server.restart();
    let regressed = Err(EngineError::Regressed { at: 0, expected: 1 });
    // The first call on each connection finds it broken.
    drop(engine.renew(lease.epoch).await);
    drop(engine.commit(lease.epoch, one_row(2), Durability::Handed).await);
    assert_eq!(engine.commit(lease.epoch, one_row(2), Durability::Handed).await, regressed);
    assert_eq!(engine.renew(lease.epoch).await, regressed);
}

#[tokio::test]
async fn a_server_that_came_back_unsafe_is_refused() {
    let mut server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    server.set_args(&["--maxmemory-policy", "allkeys-random"]);
    server.restart();
    let outcome = engine.commit(lease.epoch, one_row(1), Durability::Handed).await;
    let Err(EngineError::Refused(sentence)) = outcome else { panic!("not refused: {outcome:?}") };
    assert_says(&sentence, &["allkeys-random", "noeviction"]);
}

#[tokio::test]
async fn the_replica_level_answers_only_when_the_replicas_have_the_batch() {
    let primary = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let level = RedisDurability::Replicas(1);
    let alone = RedisEngine::connect(&primary.url(), "vol", level).await;
    let Err(EngineError::Unavailable(sentence)) = alone else { panic!("accepted without replicas") };
    assert_says(&sentence, &["0 of the 1 replicas"]);
    let mut replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]);
    let deadline = Instant::now() + Duration::from_secs(20);
    let engine = loop {
        match RedisEngine::connect(&primary.url(), "vol", level).await {
            Ok(engine) => break engine,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    let mut outcome = engine.commit(lease.epoch, one_row(1), Durability::Handed).await;
    while outcome.is_err() && Instant::now() < deadline {
        outcome = engine.commit(lease.epoch, one_row(1), Durability::Handed).await;
    }
    outcome.unwrap();
    assert!(replica.command("EXISTS dgfs:{vol}:2:0000000000000000").starts_with(":1"));
    replica.kill9();
    let missing = engine.commit(lease.epoch, one_row(2), Durability::Handed).await;
    let Err(EngineError::Unavailable(sentence)) = missing else { panic!("{missing:?}") };
    assert_says(&sentence, &["0 of 1 replicas"]);
    replica.restart();
    // The repetition changes nothing, and still waits for the replica.
    while let Err(error) = engine.commit(lease.epoch, one_row(2), Durability::Handed).await {
        assert!(Instant::now() < deadline + Duration::from_secs(20), "{error}");
    }
}

#[tokio::test]
async fn everysec_syncs_with_the_log_where_the_server_can_wait_for_it_and_else_says_so() {
    let server = RedisServer::start(&["--appendfsync", "everysec"]);
    let engine = RedisEngine::connect(&server.url(), "vol", EVERYSEC).await.unwrap();
    let lease = engine.acquire("a".to_owned()).await.unwrap().unwrap();
    engine.commit(lease.epoch, one_row(1), Durability::Synced).await.unwrap();
    let warned = engine.warnings().iter().any(|warning| warning.contains("up to one second late"));
    let waits = server.command("WAITAOF 0 0 1").starts_with('*');
    assert_eq!(warned, !waits);
}

#[tokio::test]
async fn a_call_may_be_polled_on_a_thread_without_a_runtime() {
    let server = RedisServer::start(&[]);
    let engine = RedisEngine::connect(&server.url(), "vol", RedisDurability::Always).await.unwrap();
    let mut future = engine.acquire("a".to_owned());
    let polled = std::thread::spawn(move || {
        let waiting = future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending();
        (future, waiting)
    });
    let (future, waiting) = polled.join().unwrap();
    assert!(waiting);
    assert!(future.await.unwrap().is_some());
    assert_says(&engine.describe(), &["always"]);
}
