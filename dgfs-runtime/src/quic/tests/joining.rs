//! Promises of joining, over loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};

use crate::channel::{CallError, Channel, Role};
use crate::pki::applicant::Applicant;
use crate::pki::registrar::Registrar;
use crate::pki::registrar::tests::Office;
use crate::pki::{Identity, SERVER_NAME};
use crate::quic::channel::QuicChannel;
use crate::quic::join::ask::{JoinError, Joined, join};
use crate::quic::join::limit::FAILURES_MAX;
use crate::quic::join::{DEADLINE, JOINS_MAX, JoinServer, MESSAGE_BYTES_MAX};
use crate::quic::server::QuicServer;
use crate::quic::socket::UdpSocket;
use crate::quic::tests::support::{Ask, PATIENCE, Say, TestHandler, TestProtocol, anywhere, identity};
use crate::quic::tls::joining::join_client_config;

/// A join endpoint of a cluster.
struct Gate {
    office: Office,
    server: JoinServer,
    address: String,
}

impl Gate {
    fn new() -> Self {
        Self::of(Office::new(), DEADLINE)
    }

    fn of(office: Office, deadline: Duration) -> Self {
        let meta = identity(&office.authority, Role::Meta);
        let registrar = Arc::clone(&office.registrar);
        let server = JoinServer::bind_with_deadline(anywhere(), &meta, registrar, deadline).unwrap();
        let address = server.local_address().unwrap().to_string();
        Self { office, server, address }
    }

    async fn join(&self, token: &str) -> Result<Joined, JoinError> {
        join_at(&self.address, token).await
    }

    async fn refusal(&self, token: &str) -> String {
        match self.join(token).await {
            Err(JoinError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// A connection as a joiner makes it, from an address of its own, so that failures do not add up.
    async fn knock(&self, from: u8) -> Connection {
        let fingerprint = self.office.authority.fingerprint().unwrap();
        let address: SocketAddr = self.address.parse().unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 1, from), 0).into(), None).unwrap();
        let settings = EndpointConfig::default();
        let endpoint =
            Endpoint::new_with_abstract_socket(settings, None, Arc::new(socket), Arc::new(TokioRuntime)).unwrap();
        let config = join_client_config(fingerprint).unwrap();
        endpoint.connect_with(config, address, SERVER_NAME).unwrap().await.unwrap()
    }

    /// What the server answers to these bytes, as text.
    async fn answer_to(&self, from: u8, bytes: &[u8]) -> String {
        let connection = self.knock(from).await;
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        // A server that has heard enough may stop listening.
        let _ = send.write_all(bytes).await;
        let _ = send.finish();
        let answer = receive.read_to_end(MESSAGE_BYTES_MAX).await.unwrap_or_default();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

async fn join_at(address: &str, token: &str) -> Result<Joined, JoinError> {
    join(&[address.to_owned()], &Applicant::new(token, None, "this-host", Vec::new()).unwrap()).await
}

/// What a server that lets in clients and index services says to `identity`.
async fn call_as(gate: &Gate, identity: &Identity) -> Result<(Say, Bytes), CallError> {
    let server = QuicServer::bind(anywhere(), &super::support::identity(&gate.office.authority, Role::Stored)).unwrap();
    server.serve::<TestProtocol>(TestHandler::new(), &[Role::Client, Role::Index]).unwrap();
    let address = server.local_address().unwrap();
    let channel = QuicChannel::<TestProtocol>::new(address.to_string(), identity, Role::Stored).unwrap();
    let _ = channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await;
    channel.call(Ask::WhoAmI, Bytes::new(), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_joins_is_a_peer_like_any_other_of_its_role() {
    let gate = Gate::new();
    let joined = gate.join(&gate.office.token(Role::Client, Some("laptop"))).await.unwrap();
    assert_eq!(joined.meta, ["127.0.0.1:7000"]);
    assert_eq!(joined.local, Ipv4Addr::LOCALHOST);
    let (said, _) = call_as(&gate, &joined.identity).await.unwrap();
    let Say::You { role, address } = said else { panic!("{said:?}") };
    assert_eq!(role, "client");
    assert!(address.starts_with("laptop@127.0.0.1:"), "{address}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_good_for_the_tokens_role_only() {
    let gate = Gate::new();
    let joined = gate.join(&gate.office.token(Role::Stored, Some("nas-1"))).await.unwrap();
    let error = call_as(&gate, &joined.identity).await.unwrap_err();
    let CallError::Rejected { reason, .. } = error else { panic!("{error}") };
    assert!(reason.contains("`nas-1` has role stored, but role client or index is needed here"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_taken_once_also_after_a_restart() {
    let gate = Gate::new();
    let token = gate.office.token(Role::Client, None);
    gate.join(&token).await.unwrap();
    let used = "the join token was used already: make a new one with `dgfs cluster token`";
    assert_eq!(gate.refusal(&token).await, used);
    gate.server.close(Duration::from_secs(5)).await;
    let office = gate.office;
    let registrar = Arc::new(Registrar::open(&office.directory.0, 365, Vec::new()).unwrap());
    let gate = Gate::of(Office { registrar, ..office }, DEADLINE);
    assert_eq!(gate.refusal(&token).await, used);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_show_the_same_token_at_once_one_joins() {
    let gate = Gate::new();
    let token = gate.office.token(Role::Client, None);
    let attempts = (0..8).map(|_| gate.join(&token));
    let outcomes = futures_util::future::join_all(attempts).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_is_refused_with_its_age() {
    let mut office = Office::new();
    let token = office.token_of_the_past(Duration::from_secs(4 * 3600));
    let sentence = Gate::of(office, DEADLINE).refusal(&token).await;
    assert_eq!(sentence, "the join token expired 3 h ago: make a new one with `dgfs cluster token`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_cluster_is_refused_before_the_token_is_shown() {
    let (ours, theirs) = (Gate::new(), Gate::new());
    let token = ours.office.token(Role::Client, None);
    let error = join_at(&theirs.address, &token).await.unwrap_err();
    let sentence = error.to_string();
    assert!(matches!(error, JoinError::NotAsked(_)), "{sentence}");
    assert!(sentence.contains("the token is not used up"), "{sentence}");
    assert!(sentence.contains("its authority is not the one of the join token"), "{sentence}");
    // It goes on to the next address, and the token is still good.
    let addresses = [theirs.address.clone(), ours.address.clone()];
    join(&addresses, &Applicant::new(&token, None, "this-host", Vec::new()).unwrap()).await.unwrap();
}

/// Somebody in between who has the authority's public certificate, but not its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shows_the_right_authority_but_is_not_signed_by_it_is_refused() {
    let gate = Gate::new();
    let true_meta = identity(&gate.office.authority, Role::Meta);
    let forged = identity(&gate.office.authority.forged(), Role::Meta).trusting(&true_meta);
    let between = JoinServer::bind(anywhere(), &forged, Arc::clone(&gate.office.registrar)).unwrap();
    let address = between.local_address().unwrap().to_string();
    let error = join_at(&address, &gate.office.token(Role::Client, None)).await.unwrap_err();
    assert!(matches!(error, JoinError::NotAsked(_)), "{error}");
    assert!(error.to_string().contains("is not signed by the authority of cluster"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_no_metadata_service_cannot_take_tokens() {
    let gate = Gate::new();
    let stored = identity(&gate.office.authority, Role::Stored);
    let server = JoinServer::bind(anywhere(), &stored, Arc::clone(&gate.office.registrar)).unwrap();
    let address = server.local_address().unwrap().to_string();
    let error = join_at(&address, &gate.office.token(Role::Client, None)).await.unwrap_err();
    assert!(error.to_string().contains("has role stored, but role meta is needed here"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_identity_is_of_another_authority_does_not_begin() {
    let (ours, theirs) = (Office::new(), Office::new());
    let meta = identity(&theirs.authority, Role::Meta);
    let refused = JoinServer::bind(anywhere(), &meta, Arc::clone(&ours.registrar)).err().unwrap();
    assert!(refused.to_string().contains("machines are to join by the authority"), "{refused}");
}

/// A valid certificate of the cluster does not help at the join endpoint, and the join endpoint serves nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_join_endpoint_speaks_nothing_else() {
    let gate = Gate::new();
    let client = identity(&gate.office.authority, Role::Client);
    let channel = QuicChannel::<TestProtocol>::new(gate.address.clone(), &client, Role::Meta).unwrap();
    let error = channel.call(Ask::Echo(1), Bytes::new(), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains("it does not speak dgfs-test/1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_where_nobody_listens_is_said_so() {
    let office = Office::new();
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let error = join_at(&nobody, &office.token(Role::Client, None)).await.unwrap_err();
    assert!(error.to_string().contains("no process listens there"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_long_or_nonsense_are_told_so() {
    let gate = Gate::new();
    let said = gate.answer_to(1, &vec![0; MESSAGE_BYTES_MAX + 1]).await;
    assert!(said.contains("longer than 16384 bytes"), "{said}");
    let said = gate.answer_to(2, &[0xff; 100]).await;
    assert!(said.contains("no message of dgfs-join/1"), "{said}");
    let said = gate.answer_to(3, &[]).await;
    assert!(said.contains("no message of dgfs-join/1"), "{said}");
    gate.join(&gate.office.token(Role::Client, None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_never_brings_the_endpoint_down() {
    let gate = Gate::new();
    let seed = crate::random::number().unwrap();
    println!("seed {seed:#x}");
    let mut state = seed;
    for from in 1..=60 {
        let bytes: Vec<u8> = (0..(state >> 40) % 2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .collect();
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        gate.answer_to(from, &bytes).await;
    }
    gate.join(&gate.office.token(Role::Client, None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fails_too_often_waits_and_others_do_not() {
    let gate = Gate::new();
    let theirs = Office::new();
    for _ in 0..FAILURES_MAX {
        let said = gate.answer_to(9, &request_with("dgfsjoin1.00")).await;
        assert!(said.contains("the join token is damaged"), "{said}");
    }
    let said = gate.answer_to(9, &request_with(&gate.office.token(Role::Client, None))).await;
    assert!(said.contains("too many joins from 127.0.1.9 failed: wait"), "{said}");
    gate.join(&gate.office.token(Role::Client, None)).await.unwrap();
    let said = gate.answer_to(8, &request_with(&theirs.token(Role::Client, None))).await;
    assert!(said.contains("the join token is of another cluster"), "{said}");
}

/// A request with this text for a token, and nothing proven.
fn request_with(token: &str) -> Vec<u8> {
    let request = crate::pki::registrar::JoinRequest {
        token: token.to_owned(),
        name: "x".to_owned(),
        hosts: Vec::new(),
        public_key: Vec::new(),
        proof: Vec::new(),
    };
    dgfs_proto::codec::encode(&request).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_sixteen_at_once_are_told_to_come_again() {
    let gate = Gate::new();
    let mut waiting = Vec::new();
    for from in 1..=u8::try_from(JOINS_MAX).unwrap() {
        waiting.push(gate.knock(from).await);
    }
    let token = gate.office.token(Role::Client, None);
    let error = gate.join(&token).await.unwrap_err();
    assert!(error.to_string().contains("16 others join there at this moment: try again"), "{error}");
    for connection in waiting {
        connection.close(0_u32.into(), b"");
    }
    while gate.join(&token).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_that_asks_nothing_is_left_at_the_deadline() {
    let gate = Gate::of(Office::new(), Duration::from_millis(200));
    let connection = gate.knock(1).await;
    tokio::time::timeout(Duration::from_secs(8), connection.closed()).await.unwrap();
}
