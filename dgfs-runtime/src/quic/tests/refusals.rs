//! Peers that are refused, and peers that break the protocol.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, Endpoint, TokioRuntime};

use dgfs_proto::codec;
use dgfs_proto::limits::{FRAME_BODY_BYTES_MAX, FRAME_HEAD_BYTES_MAX};

use crate::channel::{CallError, Channel, Role};
use crate::pki::{ClusterAuthority, Identity, SERVER_NAME};
use crate::quic::channel::QuicChannel;
use crate::quic::close_code;
use crate::quic::frame::{Frame, FrameHeader, FrameKind, SMALL_FRAME_BYTES_MAX};
use crate::quic::server::QuicServer;
use crate::quic::socket::UdpSocket;
use crate::quic::tests::support::{
    Ask, NewerProtocol, PATIENCE, Pair, TestHandler, TestProtocol, anywhere, authority, identity,
};
use crate::quic::tls::{client_config, endpoint_config};

/// Serves with `server`, calls with `client`, which expects a storage daemon; the reason for the refusal.
async fn refusal(server: &Identity, client: &Identity) -> String {
    let endpoint = QuicServer::bind(anywhere(), server).unwrap();
    endpoint.serve::<TestProtocol>(TestHandler::new(), &[Role::Client, Role::Index]).unwrap();
    refusal_at(endpoint.local_address().unwrap(), client).await
}

async fn refusal_at(address: SocketAddr, client: &Identity) -> String {
    let channel = QuicChannel::<TestProtocol>::new(address.to_string(), client, Role::Stored).unwrap();
    for attempt in ["first", "next"] {
        match channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await {
            Err(CallError::Rejected { reason, .. }) if attempt == "next" => return reason,
            Err(CallError::Rejected { .. }) => {}
            other => panic!("{attempt} call: {other:?}"),
        }
    }
    unreachable!()
}

fn expired(authority: &ClusterAuthority, role: Role) -> Identity {
    authority.issue_between(role, &format!("{}-old", role.name()), &[], 1_000_000_000, 1_100_000_000).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_client_is_told_the_day() {
    let authority = authority();
    let reason = refusal(&identity(&authority, Role::Stored), &expired(&authority, Role::Client)).await;
    assert_eq!(
        reason,
        "the certificate of client `client-old` expired on 2004-11-09: issue a new one with the cluster's authority"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_server_is_named_with_the_day() {
    let authority = authority();
    let reason = refusal(&expired(&authority, Role::Stored), &identity(&authority, Role::Client)).await;
    assert_eq!(
        reason,
        "the certificate of stored `stored-old` expired on 2004-11-09: issue a new one with the cluster's authority"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_cluster_is_refused_with_both_names() {
    let (ours, theirs) = (authority(), authority());
    let reason = refusal(&identity(&ours, Role::Stored), &identity(&theirs, Role::Client)).await;
    assert!(reason.contains("belongs to cluster"), "{reason}");
    assert!(reason.contains(ours.cluster()) && reason.contains(theirs.cluster()), "{reason}");
}

/// The client would refuse such a server first, so this one trusts everybody: the server must refuse by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_trusts_the_server_is_still_refused_by_it_when_of_another_cluster() {
    let (ours, theirs) = (authority(), authority());
    let pair = Pair::with(ours);
    let forged = identity(&theirs, Role::Client);
    let connection = connect_trusting(&pair, &forged).await;
    let error = connection.closed().await;
    let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error}") };
    let reason = String::from_utf8_lossy(&close.reason);
    assert!(reason.contains(pair.authority.cluster()) && reason.contains(theirs.cluster()), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_authority_with_the_right_name_is_refused() {
    let ours = authority();
    let forger = ours.forged();
    let reason = refusal(&identity(&ours, Role::Stored), &identity(&forger, Role::Client)).await;
    assert!(reason.contains("is not signed by the authority of cluster"), "{reason}");
    let pair = Pair::with(ours);
    let connection = connect_trusting(&pair, &identity(&forger, Role::Client)).await;
    let error = connection.closed().await;
    assert!(error.to_string().contains("is not signed by the authority of cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_role_than_expected_is_refused() {
    let authority = authority();
    let reason = refusal(&identity(&authority, Role::Meta), &identity(&authority, Role::Client)).await;
    assert_eq!(
        reason,
        "the certificate of `meta-1` has role meta, but role stored is needed here: check the address, or issue a \
         certificate with that role"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_role_that_is_not_allowed_is_refused() {
    let authority = authority();
    let reason = refusal(&identity(&authority, Role::Stored), &identity(&authority, Role::Meta)).await;
    assert!(reason.contains("`meta-1` has role meta, but role client or index is needed"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_of_another_protocol_version_is_refused_with_the_remedy() {
    let pair = Pair::new();
    let client = identity(&pair.authority, Role::Client);
    let newer = QuicChannel::<NewerProtocol>::new(pair.address.to_string(), &client, Role::Stored).unwrap();
    let error = newer.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    let reason = "it does not speak dgfs-test/2: check the address, and run the same version of DGFS on both hosts";
    assert_eq!(error, CallError::Rejected { peer: pair.address.to_string(), reason: reason.to_owned() });
    // The same endpoint may serve both.
    pair.server.serve::<NewerProtocol>(TestHandler::new(), &[Role::Client]).unwrap();
    let newer = QuicChannel::<NewerProtocol>::new(pair.address.to_string(), &client, Role::Stored).unwrap();
    newer.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap();
    pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_or_answer_beyond_the_bounds_is_refused_and_the_connection_lives() {
    let pair = Pair::new();
    let error = pair.ask(Ask::Echo(1), vec![0; FRAME_BODY_BYTES_MAX as usize + 1]).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected { .. }), "{error}");
    let error = pair.ask(Ask::Fill(FRAME_BODY_BYTES_MAX + 1), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected { .. }), "{error}");
    let error = pair.ask(Ask::LongHead(FRAME_HEAD_BYTES_MAX), Bytes::new()).await.unwrap_err();
    assert!(matches!(error, CallError::Rejected { .. }), "{error}");
    pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
}

async fn raw_connection(pair: &Pair) -> Connection {
    let client = identity(&pair.authority, Role::Client);
    connect_as(pair, &client, client_config(&client, "dgfs-test/1", Role::Stored).unwrap()).await
}

/// Connects showing `client`, whatever cluster it is of, and trusting the pair's authority.
async fn connect_trusting(pair: &Pair, client: &Identity) -> Connection {
    let trusted = identity(&pair.authority, Role::Client);
    let config = client_config(&client.trusting(&trusted), "dgfs-test/1", Role::Stored).unwrap();
    connect_as(pair, &trusted, config).await
}

async fn connect_as(pair: &Pair, identity: &Identity, config: quinn::ClientConfig) -> Connection {
    let socket = Arc::new(UdpSocket::bind(anywhere(), Some(pair.address)).unwrap());
    let settings = endpoint_config(identity).unwrap();
    let endpoint = Endpoint::new_with_abstract_socket(settings, None, socket, Arc::new(TokioRuntime)).unwrap();
    endpoint.connect_with(config, pair.address, SERVER_NAME).unwrap().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_large_mtu_is_discovered_over_loopback() {
    let pair = Pair::new();
    let connection = raw_connection(&pair).await;
    let began = std::time::Instant::now();
    while connection.stats().path.current_mtu < crate::quic::MTU_BYTES_MAX {
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", connection.stats().path);
        tokio::task::yield_now().await;
    }
}

fn header(kind: FrameKind, head_bytes: u32, body_bytes: u32) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    FrameHeader { kind, head_bytes, body_bytes, deadline_ms: 0, number: 1 }.encode(&mut bytes);
    bytes.to_vec()
}

/// Sends `bytes` on a new stream; how the server closes the connection.
async fn closing_after(pair: &Pair, bytes: &[u8], finish: bool) -> String {
    let connection = raw_connection(pair).await;
    let (mut send, _receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    if finish {
        send.finish().unwrap();
    }
    let error = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = error else { panic!("{error} after {bytes:x?}") };
    assert_eq!(close.error_code, close_code::MALFORMED);
    String::from_utf8(close.reason.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames_close_the_connection_with_a_reason_and_harm_nobody_else() {
    let pair = Pair::new();
    let echo = codec::encode(&Ask::Echo(1)).unwrap();
    let mut trailing = header(FrameKind::BulkCall, u32::try_from(echo.len()).unwrap(), 0);
    trailing.extend_from_slice(&echo);
    trailing.extend_from_slice(b"more");
    let mut unknown = header(FrameKind::Call, 0, 0);
    unknown[2] = 77;
    let mut nonsense = header(FrameKind::Call, 3, 0);
    nonsense.extend_from_slice(&[0xff; 3]);
    let cases: [(&[u8], bool, &str); 9] = [
        (&[0xaa; 64], false, "the bytes do not begin with a frame header"),
        (&unknown, false, "frame kind 77 is unknown"),
        (&header(FrameKind::Call, u32::MAX, 0), false, "a head of 4294967295 bytes is longer than 1048576"),
        (&header(FrameKind::BulkCall, 1, u32::MAX), false, "a body of 4294967295 bytes is longer than 16777216"),
        (
            &header(FrameKind::Call, 1, 16 << 20),
            false,
            "a frame of 16777217 bytes on the shared stream is longer than 65536",
        ),
        (&header(FrameKind::Reply, 1, 1), false, "a frame of this kind does not belong here"),
        (&nonsense, false, "the head is not a message of the protocol"),
        (&trailing, true, "bytes follow the only frame of a stream"),
        (&header(FrameKind::BulkCall, 0, 0), true, "the head is not a message of the protocol"),
    ];
    for (bytes, finish, reason) in cases {
        assert_eq!(closing_after(&pair, bytes, finish).await, reason);
    }
    pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_bytes_never_bring_the_server_down() {
    let pair = Pair::new();
    let seed = crate::random::number().unwrap();
    println!("seed {seed:#x}");
    let mut state = seed;
    for _ in 0..60 {
        let connection = raw_connection(&pair).await;
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let mut bytes = header([FrameKind::Call, FrameKind::BulkCall][(state % 2) as usize], 40, 20);
        for _ in 0..60 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            bytes.push((state >> 56) as u8);
        }
        let cut = (state >> 33) as usize % bytes.len();
        let place = (state >> 20) as usize % bytes.len();
        bytes[place] ^= (state >> 11) as u8;
        let _ = send.write_all(&bytes[..cut]).await;
        let _ = send.finish();
        connection.close(close_code::DONE, b"");
    }
    pair.ask(Ask::Echo(1), Bytes::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_call_cut_off_in_the_middle_is_forgotten_and_the_connection_lives() {
    let pair = Pair::new();
    let connection = raw_connection(&pair).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&header(FrameKind::BulkCall, 10, 1000)).await.unwrap();
    send.write_all(&[1; 100]).await.unwrap();
    send.finish().unwrap();
    // The server drops its side of the stream without an answer.
    assert!(receive.read_to_end(100).await.unwrap().is_empty());
    assert!(connection.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_sends_nonsense_is_left() {
    let authority = authority();
    let server = identity(&authority, Role::Stored);
    let socket = Arc::new(UdpSocket::bind(anywhere(), None).unwrap());
    let config = crate::quic::tls::server_config(&server, &["dgfs-test/1"]).unwrap();
    let settings = endpoint_config(&server).unwrap();
    let endpoint = Endpoint::new_with_abstract_socket(settings, Some(config), socket, Arc::new(TokioRuntime)).unwrap();
    let address = endpoint.local_addr().unwrap();
    let client = identity(&authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(address.to_string(), &client, Role::Stored).unwrap();
    let call = tokio::spawn(channel.call(Ask::Echo(1), Bytes::new(), PATIENCE));
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (mut send, _receive) = connection.accept_bi().await.unwrap();
    send.write_all(&[0x55; 100]).await.unwrap();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    let ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!() };
    assert_eq!(close.error_code, close_code::MALFORMED);
}

#[test]
fn a_small_frame_of_the_largest_size_is_small_and_one_byte_more_is_not() {
    let frame = |head: usize, body: usize| Frame {
        kind: FrameKind::Call,
        deadline_ms: 0,
        number: 1,
        head: vec![0; head].into(),
        body: vec![0; body].into(),
    };
    assert!(frame(SMALL_FRAME_BYTES_MAX / 2, SMALL_FRAME_BYTES_MAX / 2).is_small());
    assert!(!frame(SMALL_FRAME_BYTES_MAX / 2 + 1, SMALL_FRAME_BYTES_MAX / 2).is_small());
    assert!(!frame(0, SMALL_FRAME_BYTES_MAX / 2 + 1).is_small());
}
