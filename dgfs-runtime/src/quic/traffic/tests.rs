//! Numbers of peers, with and without connections.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{FAILURE_HOLDS, FORGOTTEN_AFTER, Heard, PEERS_MAX, PeerTraffic, SILENT, Table, register};
use crate::channel::{CallError, Channel, Role};
use crate::metrics::MetricSet;
use crate::quic::channel::QuicChannel;
use crate::quic::tests::calls::killable;
use crate::quic::tests::support::{Ask, PATIENCE, Pair, TestProtocol, anywhere, authority, identity};

const HOUR: Duration = FORGOTTEN_AFTER;

/// The value of the series of `metric` whose labels are `labels`, as they are written.
fn value(set: &MetricSet, metric: &str, labels: &str) -> Option<f64> {
    let text = set.render().unwrap();
    let begin = format!("{metric}{{{labels}}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)).map(|value| value.parse().unwrap())
}

fn shown() -> MetricSet {
    let set = MetricSet::new();
    register(&set);
    set
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_count_what_goes_between_them() {
    let (pair, set) = (Pair::new(), shown());
    let out = format!("peer=\"{}\",role=\"stored\",direction=\"out\"", pair.address);
    pair.ask(Ask::Echo(1), Bytes::from(vec![1; 100_000])).await.unwrap();
    pair.ask(Ask::Echo(2), Bytes::new()).await.unwrap();
    assert_eq!(value(&set, "dgfs_peer_requests_total", &out), Some(2.0));
    assert!(value(&set, "dgfs_peer_sent_bytes_total", &out).unwrap() > 100_000.0);
    assert!(value(&set, "dgfs_peer_received_bytes_total", &out).unwrap() > 100_000.0);
    assert!(value(&set, "dgfs_peer_rtt_seconds", &out).unwrap() > 0.0);
    let called = format!("peer=\"{}\",role=\"stored\"", pair.address);
    assert_eq!(value(&set, "dgfs_peer_up", &called), Some(1.0));
    assert!(value(&set, "dgfs_peer_silent_seconds", &called).unwrap() < 4.0);
    assert_eq!(value(&set, "dgfs_peer_failures_total", &called), Some(0.0));
    // The other end: every test of this process calls as client-1 from here.
    let caller = "peer=\"client-1@127.0.0.1\",role=\"client\",direction=\"in\"";
    assert!(value(&set, "dgfs_peer_requests_total", caller).unwrap() >= 2.0);
    assert!(value(&set, "dgfs_peer_received_bytes_total", caller).unwrap() > 100_000.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_closed_connection_carried_stays_counted() {
    let (pair, set) = (Pair::new(), shown());
    let out = format!("peer=\"{}\",role=\"stored\",direction=\"out\"", pair.address);
    pair.ask(Ask::Echo(1), Bytes::from(vec![1; 100_000])).await.unwrap();
    let before = value(&set, "dgfs_peer_sent_bytes_total", &out).unwrap();
    let address = pair.address;
    drop(pair);
    let after = value(&set, "dgfs_peer_sent_bytes_total", &out).unwrap();
    assert!(after >= before, "{after} < {before}");
    // No channel to it is left: nobody can say whether it is up.
    let called = format!("peer=\"{address}\",role=\"stored\"");
    until("the connection is closed", || value(&set, "dgfs_peer_up", &called).is_none()).await;
    assert_eq!(value(&set, "dgfs_peer_silent_seconds", &called), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ended_leaves_the_table_and_its_channel_while_nobody_calls() {
    let (pair, set) = (Pair::new(), shown());
    let called = format!("peer=\"{}\",role=\"stored\"", pair.address);
    let out = format!("{called},direction=\"out\"");
    pair.ask(Ask::Echo(1), Bytes::from(vec![1; 100_000])).await.unwrap();
    assert!(value(&set, "dgfs_peer_silent_seconds", &called).is_some());
    assert!(value(&set, "dgfs_peer_rtt_seconds", &out).is_some());
    let before = value(&set, "dgfs_peer_sent_packets_total", &out).unwrap();
    pair.server.close(Duration::from_secs(1)).await;
    // The channel lives, and is not asked.
    until("it is let go", || !pair.channel.holds_a_connection()).await;
    assert_eq!(value(&set, "dgfs_peer_silent_seconds", &called), None);
    assert_eq!(value(&set, "dgfs_peer_rtt_seconds", &out), None);
    assert!(value(&set, "dgfs_peer_sent_packets_total", &out).unwrap() >= before && before > 0.0);
}

/// Before, all its connections were one sum that stood still, and the link to it was called cut for as long as the old ones lived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_on_another_connection_is_not_silent() {
    let (peer, begin) = (PeerTraffic::new(Instant::now()), Instant::now());
    let after = |seconds| begin + Duration::from_secs(seconds);
    let authority = authority();
    let victim = killable(anywhere(), &identity(&authority, Role::Stored));
    let address = victim.server.local_address().unwrap().to_string();
    let ours = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address, &ours, Role::Stored).unwrap();
    channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap();
    let first = channel.connection();
    let _first = peer.count(first.clone());
    assert_eq!(peer.silence(after(1)), Some(Duration::ZERO));
    // Nothing comes from the dead; what came before is seen by this look.
    victim.kill().await;
    let _ = first.closed().await;
    let _ = peer.silence(after(2));
    assert_eq!(peer.silence(after(9)), Some(Duration::from_secs(7)), "the only one is silent");
    let new = Pair::new();
    new.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
    let later = peer.count(new.channel.connection());
    assert_eq!(peer.silence(after(10)), Some(Duration::ZERO), "the other one answers");
    drop(later);
    assert_eq!(peer.silence(after(11)), Some(Duration::from_secs(9)));
}

/// The connection of a killed daemon's peer ends by a reset from the one that was started in its place: long before a link is called cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_killed_and_started_again_at_once_is_not_called_silent() {
    let (authority, set) = (authority(), shown());
    let server = identity(&authority, Role::Stored);
    let victim = killable(anywhere(), &server);
    let address = victim.server.local_address().unwrap();
    let ours = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address.to_string(), &ours, Role::Stored).unwrap();
    channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap();
    let called = format!("peer=\"{address}\",role=\"stored\"");
    victim.kill().await;
    let again = killable(address, &server);
    let mut longest = 0.0_f64;
    until("its connection is let go", || {
        longest = longest.max(value(&set, "dgfs_peer_silent_seconds", &called).unwrap_or_default());
        !channel.holds_a_connection()
    })
    .await;
    assert!(longest < SILENT.as_secs_f64(), "it was called silent for {longest} s");
    assert_eq!(value(&set, "dgfs_peer_silent_seconds", &called), None);
    again.kill().await;
}

/// Asks until it is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not so: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_nobody_runs_is_down_and_its_failures_are_counted() {
    let set = shown();
    let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let ours = identity(&authority(), Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address.clone(), &ours, Role::Stored).unwrap();
    let called = format!("peer=\"{address}\",role=\"stored\"");
    assert_eq!(value(&set, "dgfs_peer_up", &called), None, "nobody has tried yet");
    let refused = channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(refused, CallError::Unreachable { .. }), "{refused}");
    assert_eq!(value(&set, "dgfs_peer_up", &called), Some(0.0));
    assert_eq!(value(&set, "dgfs_peer_failures_total", &called), Some(1.0));
}

#[test]
fn the_last_outcome_counts_and_an_old_failure_says_nothing() {
    let born = Instant::now();
    let peer = PeerTraffic::new(born);
    assert_eq!(peer.up(born), None);
    peer.ended(&Ok(()));
    assert_eq!(peer.up(born), Some(true));
    peer.failed(born);
    assert_eq!(peer.up(born + FAILURE_HOLDS - Duration::from_millis(1)), Some(false));
    assert_eq!(peer.up(born + FAILURE_HOLDS), None);
    peer.connected(&Ok(()));
    assert_eq!(peer.up(born + HOUR), Some(true));
}

#[test]
fn a_refused_certificate_is_no_failed_call_but_the_peer_is_not_up() {
    let peer = PeerTraffic::new(Instant::now());
    peer.ended::<()>(&Err(CallError::Rejected { peer: "x".to_owned(), reason: "y".to_owned() }));
    assert_eq!((peer.up(Instant::now()), peer.failures.load(Ordering::Relaxed)), (Some(false), 0));
}

#[test]
fn a_full_table_adds_up_the_rest_and_forgets_who_was_away_for_an_hour() {
    let now = Instant::now();
    let mut table = Table::new();
    let kept: Vec<_> = (0..PEERS_MAX).map(|number| table.peer(&format!("{number}"), Role::Client, now)).collect();
    let one_more = table.peer("one more", Role::Client, now + HOUR);
    assert!(Arc::ptr_eq(&one_more, &table.other), "everybody is in use");
    one_more.request();
    let row = table.rows().into_iter().find(|row| row.name == "other").unwrap();
    assert_eq!((row.role, row.peer.requests.load(Ordering::Relaxed)), ("other", 1));
    drop(kept);
    let soon = now + HOUR - Duration::from_secs(1);
    assert!(Arc::ptr_eq(&table.peer("too soon", Role::Client, soon), &table.other));
    assert!(!Arc::ptr_eq(&table.peer("later", Role::Client, now + HOUR), &table.other));
    assert_eq!(table.peers.len(), PEERS_MAX);
}

#[test]
fn a_mapped_address_is_the_peer_of_its_plain_one() {
    let plain = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
    assert!(Arc::ptr_eq(
        &super::of_caller("mapped", plain, Role::Index),
        &super::of_caller("mapped", mapped, Role::Index)
    ));
}

#[test]
fn a_peer_is_silent_from_the_look_that_saw_its_last_packet() {
    let begin = Instant::now();
    let after = |seconds| begin + Duration::from_secs(seconds);
    let mut heard = Heard { packets: 0, at: begin };
    assert_eq!(heard.look(7, after(3)), Duration::ZERO, "a packet came since");
    assert_eq!(heard.look(7, after(8)), Duration::from_secs(5));
    assert_eq!(heard.look(8, after(9)), Duration::ZERO);
    assert_eq!(heard.look(8, after(8)), Duration::ZERO, "a look that was overtaken");
}
