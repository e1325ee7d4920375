//! A Neo4j server for the tests: one for all that share it, more for those that kill it.
//!
//! Never touches a database that holds anything but a test's graph. Always: a server started here ends with this process,
//! because its standard input does, and each has a directory and a port of its own. `DGFS_TEST_NEO4J_URI` (with `_USER` and
//! `_PASSWORD_FILE`) names another server for the tests that do not kill theirs.

#![expect(clippy::expect_used, reason = "a test that panics has failed")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::{Mutex, MutexGuard};

use dgfs_index::neo4j::link::{Link, LinkConfig, Statement};
use dgfs_index::neo4j::schema;

/// The volume of every test; only a database that holds nothing else is emptied.
pub(crate) const VOLUME: &str = "dgfs-test";
const PASSWORD: &str = "a word, and \"more\"";

/// A server of our own.
pub(crate) struct Server {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one in a fresh directory.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = class_path().0.join("runs");
        remove_left_over(&runs);
        let dir = runs.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(dir.join("certificates")).expect("make the server's directory");
        fs::write(dir.join("password"), format!("{PASSWORD}\n")).expect("write the password");
        write_certificates(&dir);
        let port = free_port();
        fs::write(dir.join("neo4j.conf"), config(&dir, port)).expect("write the configuration");
        let child = spawn(&dir);
        Self { child, dir, port }
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("reap the server");
    }

    /// Starts it again after [`Self::kill`].
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.dir);
    }

    /// How it is reached: with long waits, for the machine may be busy with other things.
    pub(crate) fn config(&self) -> LinkConfig {
        let address = format!("bolt://127.0.0.1:{}", self.port);
        let config = LinkConfig::new(address, "neo4j", self.dir.join("password"));
        LinkConfig { connect_ms_max: 60_000, answer_ms_max: 180_000, ..config }
    }

    /// The certificate of the authority that signed the server's.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("certificates/ca.pem")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
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
        Statement::new("MATCH (n) WHERE NOT EXISTS { MATCH (:Applied {id: $volume}) } RETURN count(n) AS row");
    let foreign = link.column(&foreign.with("volume", VOLUME), 1).await.expect("count the nodes");
    assert_eq!(foreign, [0], "the database holds something that no test made; it is left alone");
    let clear = Statement::new("MATCH (n) CALL { WITH n DETACH DELETE n } IN TRANSACTIONS OF 5000 ROWS");
    link.run_alone(&clear, 120_000).await.expect("empty the database");
}

fn spawn(dir: &Path) -> Child {
    let mut child = Command::new("java")
        // A start of 6 s instead of 11 s, for half of the speed once it is warm.
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .args(["-cp", &class_path().1, "ServeNeo4j"])
        .arg(dir.join("home"))
        .arg(dir.join("neo4j.conf"))
        .arg(dir.join("password"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(dir.join("errors")).expect("make the log"))
        .spawn()
        .expect("start java");
    let output = BufReader::new(child.stdout.take().expect("the output"));
    let ready = output.lines().map_while(Result::ok).any(|line| line == "ready");
    let errors = || fs::read_to_string(dir.join("errors")).unwrap_or_default();
    assert!(ready, "Neo4j does not start: {}", errors());
    child
}

/// The directory of what Maven brought, and the class path.
fn class_path() -> &'static (PathBuf, String) {
    static FOUND: OnceLock<(PathBuf, String)> = OnceLock::new();
    FOUND.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/neo4j.sh");
        let output = Command::new(&script).stderr(Stdio::inherit()).output().expect("run tests/neo4j.sh");
        assert!(output.status.success(), "tests/neo4j.sh: {}", output.status);
        let path = String::from_utf8(output.stdout).expect("a class path").trim().to_owned();
        let classes = Path::new(path.split(':').next().expect("a first entry"));
        (classes.parent().expect("its directory").to_owned(), path)
    })
}

/// Directories of processes that are gone: a shared server has no owner that could remove its own.
fn remove_left_over(runs: &Path) {
    for run in fs::read_dir(runs).into_iter().flatten().flatten() {
        let name = run.file_name();
        let pid = name.to_string_lossy().split('-').next().unwrap_or_default().to_owned();
        if !Path::new("/proc").join(&pid).exists() {
            let _ = fs::remove_dir_all(run.path());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("an address").port()
}

fn config(dir: &Path, port: u16) -> String {
    let certificates = dir.join("certificates");
    format!(
        "server.bolt.enabled=true\nserver.bolt.listen_address=127.0.0.1:{port}\nserver.bolt.tls_level=OPTIONAL\n\
         server.http.enabled=false\nserver.https.enabled=false\nserver.default_listen_address=127.0.0.1\n\
         dbms.security.auth_enabled=true\ndbms.usage_report.enabled=false\nserver.memory.pagecache.size=64m\n\
         dbms.ssl.policy.bolt.enabled=true\ndbms.ssl.policy.bolt.client_auth=NONE\n\
         dbms.ssl.policy.bolt.base_directory={}\ndbms.ssl.policy.bolt.private_key=key.pem\n\
         dbms.ssl.policy.bolt.public_certificate=cert.pem\n",
        certificates.display()
    )
}

fn write_certificates(dir: &Path) {
    let dir = dir.join("certificates");
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
