//! Calls that are answered, and calls whose peer goes away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dgfs_proto::limits::{FRAME_BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use futures_util::future::join_all;
use quinn::AsyncUdpSocket;
use tokio::runtime::Runtime;

use crate::channel::{CallError, Channel, Role};
use crate::lifecycle::build_runtime;
use crate::pki::Identity;
use crate::quic::MTU_BYTES_MAX;
use crate::quic::channel::QuicChannel;
use crate::quic::server::QuicServer;
use crate::quic::socket::UdpSocket;
use crate::quic::tests::support::{Ask, PATIENCE, Pair, Say, TestHandler, TestProtocol, anywhere, authority, identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_call_is_answered() {
    let pair = Pair::new();
    assert_eq!(pair.ask(Ask::Echo(5), &b"abc"[..]).await, Ok((Say::Echo(5), Bytes::from_static(b"abc"))));
    assert_eq!(pair.channel.peer(), pair.address.to_string());
}

#[tokio::test]
async fn a_current_thread_runtime_carries_both_sides() {
    let pair = Pair::new();
    assert_eq!(pair.ask(Ask::Echo(5), &b"abc"[..]).await, Ok((Say::Echo(5), Bytes::from_static(b"abc"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handler_knows_role_and_name_by_certificate() {
    let pair = Pair::new();
    let (Say::You { role, address }, _) = pair.ask(Ask::WhoAmI, Bytes::new()).await.unwrap() else { panic!() };
    assert_eq!(role, "client");
    assert!(address.starts_with("client-1@127.0.0.1:"), "{address}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_arrive_unchanged_in_both_directions() {
    let pair = Pair::new();
    let largest = FRAME_BODY_BYTES_MAX as usize;
    for bytes in [0, 1, SMALL_BODY_BYTES_MAX - 1, SMALL_BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX + 1, 1 << 20, largest] {
        let body: Bytes = (0..bytes).map(|index| (index % 251) as u8).collect();
        assert_eq!(pair.ask(Ask::Echo(bytes as u64), body.clone()).await, Ok((Say::Echo(bytes as u64), body)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_call_may_have_a_large_answer() {
    let pair = Pair::new();
    let (say, body) = pair.ask(Ask::Fill(FRAME_BODY_BYTES_MAX), Bytes::new()).await.unwrap();
    assert_eq!((say, body.len()), (Say::Filled, FRAME_BODY_BYTES_MAX as usize));
    let (say, _) = pair.ask(Ask::LongHead(1_000_000), Bytes::new()).await.unwrap();
    assert_eq!(say, Say::LongHead(vec![9; 1_000_000]));
}

/// Batches of segments above 64 KiB are dropped by the kernel without an error, quinn's own bound of 10 segments is not
/// enough for segments of the large MTU: the transfer below is then several times slower, and the MTU falls back.
#[tokio::test]
async fn a_batch_of_the_largest_segments_fits_into_one_udp_message() {
    let socket = UdpSocket::bind(anywhere(), None).unwrap();
    assert!(socket.max_transmit_segments() * usize::from(MTU_BYTES_MAX) <= 65_507);
    assert!(socket.max_receive_segments() * usize::from(MTU_BYTES_MAX) >= 65_535 || socket.max_receive_segments() == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mib_pass_each_way_at_the_large_mtu() {
    let pair = Pair::new();
    let body = Bytes::from(vec![5; 4 << 20]);
    let began = Instant::now();
    for _ in 0..5 {
        let puts = (0..5).map(|number| pair.ask(Ask::Echo(number), body.clone()));
        for answer in join_all(puts).await {
            assert_eq!(answer.unwrap().1.len(), body.len());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let path = pair.channel.path_stats();
    println!("100 MiB each way: {seconds:.2} s, {:.0} MiB/s each way, {path:?}", 100.0 / seconds);
    // A busy machine loses some to full socket buffers; a dropped batch shows in many times more.
    assert!(path.lost_packets * 2 < path.sent_packets && seconds < 60.0, "{path:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_parallel_calls_and_bulk_calls_are_all_answered() {
    let pair = Pair::new();
    let small = (0..1000u64).map(|number| pair.ask(Ask::Echo(number), Bytes::from(vec![1; (number % 600) as usize])));
    let bulk = (0..12u64).map(|number| pair.ask(Ask::Echo(number), Bytes::from(vec![2; 1 << 20])));
    let fills = (0..12u32).map(|number| pair.ask(Ask::Fill((1 << 20) + number), Bytes::new()));
    let (small, bulk, fills) = tokio::join!(join_all(small), join_all(bulk), join_all(fills));
    for (number, answer) in small.into_iter().enumerate() {
        let (say, body) = answer.unwrap();
        assert_eq!((say, body.len()), (Say::Echo(number as u64), number % 600));
    }
    for (number, answer) in bulk.into_iter().enumerate() {
        assert_eq!(answer.unwrap().0, Say::Echo(number as u64));
    }
    for (number, answer) in fills.into_iter().enumerate() {
        assert_eq!(answer.unwrap().1.len(), (1 << 20) + number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_calls_do_not_block_others_and_are_answered_later() {
    let pair = Pair::new();
    let parked: Vec<_> = (0..500)
        .map(|_| {
            let call = pair.channel.call(Ask::Park, Bytes::new(), None);
            tokio::spawn(call)
        })
        .collect();
    pair.parked(500).await;
    assert_eq!(pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap().0, Say::Echo(1));
    assert_eq!(pair.ask(Ask::Fill(1 << 20), Bytes::new()).await.unwrap().1.len(), 1 << 20);
    pair.handler.gate.add_permits(500);
    for call in parked {
        assert_eq!(call.await.unwrap().unwrap().0, Say::Unparked);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passes_is_reported_and_the_handler_still_runs_to_its_end() {
    let pair = Pair::new();
    let after = Duration::from_millis(50);
    let error = pair.channel.call(Ask::Park, Bytes::new(), Some(after)).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut { peer: pair.address.to_string(), after });
    pair.handler.gate.add_permits(1);
    while pair.handler.finished.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap().0, Say::Echo(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_polled_first_on_a_plain_thread_ends_on_a_worker() {
    let pair = Pair::new();
    let call = pair.channel.call(Ask::Echo(8), Bytes::from(vec![3; 100_000]), PATIENCE);
    let polled = std::thread::spawn(move || {
        let mut call = call;
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        call
    });
    let call = polled.join().unwrap();
    assert_eq!(tokio::spawn(call).await.unwrap().unwrap().0, Say::Echo(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_calls_leave_the_connection_usable() {
    let pair = Pair::new();
    pair.ask(Ask::Echo(0), Bytes::new()).await.unwrap();
    for number in 0..200u64 {
        let bytes = if number % 2 == 0 { 10 } else { 4 << 20 };
        let call = pair.channel.call(Ask::Echo(number), Bytes::from(vec![1; bytes]), PATIENCE);
        // Dropped at whatever point it has reached by then.
        let _ = tokio::time::timeout(Duration::from_micros(number * 20), call).await;
    }
    assert_eq!(pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap().0, Say::Echo(1));
    assert_eq!(pair.ask(Ask::Echo(2), vec![1; 1 << 20]).await.unwrap().0, Say::Echo(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_handler_fails_that_call_only() {
    let pair = Pair::new();
    let error = pair.ask(Ask::Panic, Bytes::new()).await.unwrap_err();
    assert!(matches!(&error, CallError::Unreachable { reason, .. } if reason.contains("it failed while")), "{error}");
    assert_eq!(pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap().0, Say::Echo(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_answers_what_runs_and_then_closes() {
    let pair = Pair::new();
    let parked = tokio::spawn(pair.channel.call(Ask::Park, Bytes::new(), PATIENCE));
    pair.parked(1).await;
    let stop = tokio::spawn(pair.server.close(Duration::from_secs(20)));
    pair.handler.gate.add_permits(1);
    assert_eq!(parked.await.unwrap().unwrap().0, Say::Unparked);
    stop.await.unwrap();
    let began = Instant::now();
    let error = pair.channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_server_does_not_wait_for_parked_calls_beyond_its_grace() {
    let pair = Pair::new();
    let parked = tokio::spawn(pair.channel.call(Ask::Park, Bytes::new(), None));
    pair.parked(1).await;
    pair.server.close(Duration::from_millis(50)).await;
    let error = parked.await.unwrap().unwrap_err();
    assert!(matches!(&error, CallError::Unreachable { reason, .. } if reason == "it is stopping"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_call_after_a_restart_of_the_server_succeeds() {
    let pair = Pair::new();
    pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
    pair.server.close(Duration::from_secs(1)).await;
    let server = QuicServer::bind(pair.address, &identity(&pair.authority, Role::Stored)).unwrap();
    server.serve::<TestProtocol>(TestHandler::new(), &[Role::Client]).unwrap();
    let began = Instant::now();
    while let Err(error) = pair.channel.call(Ask::Echo(2), Bytes::new(), PATIENCE).await {
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5), "{error}");
        tokio::task::yield_now().await;
    }
}

/// A server in a runtime of its own, so that dropping the runtime is what `kill -9` is: not a packet more is sent.
pub(crate) fn killable(address: SocketAddr, identity: &Identity) -> Victim {
    let runtime = build_runtime("victim", 1).unwrap();
    let handler = TestHandler::new();
    let inside = runtime.enter();
    let server = QuicServer::bind(address, identity).unwrap();
    server.serve::<TestProtocol>(handler.clone(), &[Role::Client]).unwrap();
    drop(inside);
    Victim { runtime, server, handler }
}

pub(crate) struct Victim {
    runtime: Runtime,
    pub(crate) server: QuicServer,
    handler: Arc<TestHandler>,
}

impl Victim {
    /// Without its runtime the server has nobody left to send a good-bye; then its socket is closed.
    pub(crate) async fn kill(self) {
        let kill = move || {
            self.runtime.shutdown_timeout(Duration::from_secs(5));
            drop(self.server);
        };
        tokio::task::spawn_blocking(kill).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_killed_in_the_middle_of_a_call_fails_it_and_its_return_is_noticed() {
    let authority = authority();
    let server = identity(&authority, Role::Stored);
    let victim = killable(anywhere(), &server);
    let address = victim.server.local_address().unwrap();
    let client = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address.to_string(), &client, Role::Stored).unwrap();
    let parked = tokio::spawn(channel.call(Ask::Park, Bytes::new(), None));
    let long = tokio::spawn(channel.call(Ask::Echo(1), Bytes::from(vec![1; 16 << 20]), None));
    while victim.handler.parked.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    let killed = Instant::now();
    victim.kill().await;
    let error = parked.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    println!("noticed after {:?}: {error}", killed.elapsed());
    // By the refusal of its host; a host that is gone as well takes the idle time-out of 10 s.
    assert!(killed.elapsed() < Duration::from_secs(8), "{:?}", killed.elapsed());
    let _ = long.await.unwrap();

    let dead = Instant::now();
    let mut failures = 0;
    while dead.elapsed() < Duration::from_millis(200) {
        channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
        failures += 1;
        tokio::task::yield_now().await;
    }
    println!("{failures} calls failed in 200 ms");
    assert!(failures > 10, "calls to a dead peer must fail fast, {failures} did");

    let again = killable(address, &server);
    while let Err(error) = channel.call(Ask::Echo(2), Bytes::new(), PATIENCE).await {
        assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
        assert!(dead.elapsed() < Duration::from_secs(10), "{error}");
        tokio::task::yield_now().await;
    }
    again.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address_is_reported_at_once_and_not_hammered() {
    let authority = authority();
    let free = std::net::UdpSocket::bind(anywhere()).unwrap().local_addr().unwrap();
    let client = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(free.to_string(), &client, Role::Stored).unwrap();
    let began = Instant::now();
    let error = channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error, CallError::Unreachable { peer: free.to_string(), reason: "no process listens there".to_owned() });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_address_is_given_up_after_the_connect_time_out() {
    let authority = authority();
    // Bound and never read: packets go there and nothing comes back.
    let silent = std::net::UdpSocket::bind(anywhere()).unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let client = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address.clone(), &client, Role::Stored).unwrap();
    let began = Instant::now();
    let error = channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(error, CallError::Unreachable { peer: address, reason: "it does not answer".to_owned() });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_name_is_resolved() {
    let pair = Pair::new();
    let client = identity(&pair.authority, Role::Client);
    let address = format!("localhost:{}", pair.address.port());
    let channel = QuicChannel::<TestProtocol>::new(address, &client, Role::Stored).unwrap();
    assert_eq!(channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap().0, Say::Echo(1));
    let unknown = QuicChannel::<TestProtocol>::new("no-such-host.invalid:1".to_owned(), &client, Role::Stored).unwrap();
    let error = unknown.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_outlives_its_channel_and_then_the_connection_is_closed() {
    let Pair { server, handler, channel, .. } = Pair::new();
    let parked = tokio::spawn(channel.call(Ask::Park, Bytes::new(), PATIENCE));
    while handler.parked.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    drop(channel);
    handler.gate.add_permits(1);
    assert_eq!(parked.await.unwrap().unwrap().0, Say::Unparked);
    let began = Instant::now();
    while server.open_connections() > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "the connection of a dropped channel stays open");
        tokio::task::yield_now().await;
    }
}

/// Not a promise, a number to look at: `cargo test --release -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn measure_small_calls() {
    let pair = Pair::new();
    pair.ask(Ask::Echo(0), Bytes::new()).await.unwrap();
    for in_flight in [1, 8, 64] {
        let began = Instant::now();
        let per_task = 20_000 / in_flight;
        join_all((0..in_flight).map(|_| {
            let channel = Arc::clone(&pair.channel);
            tokio::spawn(async move {
                for number in 0..per_task {
                    channel.call(Ask::Echo(number), Bytes::from_static(&[1; 128]), None).await.unwrap();
                }
            })
        }))
        .await;
        let calls = per_task * in_flight;
        println!("{in_flight} in flight: {:.0} calls/s", calls as f64 / began.elapsed().as_secs_f64());
    }
}
