//! A Neo4j server for the tests: one for all that share it, more for those that kill it.
//!
//! Never touches a database that holds anything but a test's graph. `DGFS_TEST_NEO4J_URI` (with `_USER` and `_PASSWORD_FILE`)
//! names another server for the tests that do not kill theirs.

#![expect(clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::{Mutex, MutexGuard};

use dgfs_index::neo4j::link::{Link, LinkConfig, Statement};
use dgfs_index::neo4j::schema;
use dgfs_index::neo4j::settings::Neo4jConfig;
use dgfs_proto::ids::Uuid;

use crate::process;

pub(crate) use crate::process::write_password;

/// The volume of every test; only a database that holds nothing else is emptied.
pub(crate) const VOLUME: &str = "dgfs-test";

/// A server of our own.
pub(crate) struct Server(process::Server);

impl Server {
    /// Starts one in a fresh directory.
    pub(crate) fn start() -> Self {
        Self(process::Server::start(Some(write_certificates)))
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }

    /// Starts it again after [`Self::kill`].
    pub(crate) fn restart(&mut self) {
        self.0.restart();
    }

    /// How it is reached: with long waits, for the machine may be busy with other things.
    pub(crate) fn config(&self) -> LinkConfig {
        let config = self.settings().link();
        LinkConfig { connect_ms_max: 60_000, answer_ms_max: 180_000, ..config }
    }

    /// What a person says of it.
    pub(crate) fn settings(&self) -> Neo4jConfig {
        let (address, password_file) = (self.0.address(), self.0.password_file());
        Neo4jConfig { address, user: "neo4j".to_owned(), password_file, ca: None }
    }

    /// The certificate of the authority that signed the server's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.dir().join("certificates/ca.pem")
    }
}

/// The shared server, emptied, for one test at a time.
pub(crate) struct Graph {
    pub(crate) link: Link,
    pub(crate) config: LinkConfig,
    _turn: MutexGuard<'static, ()>,
}

/// Takes the shared server, with the schema made and nothing in it.
pub(crate) async fn graph() -> Graph {
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    let config = given().unwrap_or_else(|| shared().config());
    let link = Link::open(&config).expect("open the link");
    empty(&link).await;
    schema::ensure(&link).await.expect("make the schema");
    Graph { link, config, _turn: turn }
}

/// The shared server of our own.
pub(crate) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}

/// A server named by the environment.
fn given() -> Option<LinkConfig> {
    let address = std::env::var("DGFS_TEST_NEO4J_URI").ok()?;
    let user = std::env::var("DGFS_TEST_NEO4J_USER").unwrap_or_else(|_| "neo4j".to_owned());
    let file = std::env::var("DGFS_TEST_NEO4J_PASSWORD_FILE").expect("DGFS_TEST_NEO4J_PASSWORD_FILE is needed too");
    Some(LinkConfig::new(address, user, file))
}

async fn empty(link: &Link) {
    let foreign =
        Statement::new("MATCH (n) WHERE NOT EXISTS { MATCH (a:Applied) WHERE a.id IN $ours } RETURN count(n) AS row");
    // Of tests that write themselves, and of those whose index follows a made-up metadata service.
    let ours = vec![VOLUME.to_owned(), Uuid([7; 16]).to_string()];
    let foreign = link.column(&foreign.with("ours", ours), 1).await.expect("count the nodes");
    assert_eq!(foreign, [0], "the database holds something that no test made; it is left alone");
    let clear = Statement::new("MATCH (n) CALL { WITH n DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS");
    link.run_alone(&clear, 120_000).await.expect("empty the database");
}

fn write_certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let cert = CertificateParams::new(names).expect("parameters").signed_by(&key, &ca).expect("a certificate");
    fs::write(dir.join("ca.pem"), ca.pem()).expect("write the authority");
    fs::write(dir.join("cert.pem"), cert.pem()).expect("write the certificate");
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("write the key");
}
