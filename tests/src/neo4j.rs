//! A Neo4j server in a process of its own, for tests that write to it and kill it.
//!
//! Never touches a server that is there already. Always: one that is started here ends with this process, because its standard
//! input does, and each has a directory and a port of its own. Compiled into the tests of `dgfs-index`, too, by its path.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The password of every server; what is odd in it is odd on purpose.
pub const PASSWORD: &str = "a word, and \"more\"";

/// A server of our own.
#[derive(Debug)]
pub struct Server {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Server {
    /// Starts one in a fresh directory. `certify` puts `cert.pem` and `key.pem` into the directory that it is given; without
    /// them there is no TLS.
    #[must_use]
    pub fn start(certify: Option<fn(&Path)>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = class_path().0.join("runs");
        remove_left_over(&runs);
        let dir = runs.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let certificates = dir.join("certificates");
        fs::create_dir_all(&certificates).expect("make the server's directory");
        write_password(&dir.join("password"), PASSWORD);
        let port = free_port();
        let mut lines = config(port);
        if let Some(certify) = certify {
            certify(&certificates);
            lines.push_str(&tls(&certificates));
        }
        fs::write(dir.join("neo4j.conf"), lines).expect("write the configuration");
        let child = spawn(&dir);
        Self { child, dir, port }
    }

    /// Kills it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("reap the server");
    }

    /// Starts it again after [`Self::kill`]; returns when it answers.
    pub fn restart(&mut self) {
        self.child = spawn(&self.dir);
    }

    /// `bolt://HOST:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("bolt://127.0.0.1:{}", self.port)
    }

    /// The file with the password of the user `neo4j`.
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.dir.join("password")
    }

    /// Its directory, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Writes a password file that nobody else can read.
pub fn write_password(file: &Path, password: &str) {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(file).expect("make the file");
    file.write_all(format!("{password}\n").as_bytes()).expect("write the password");
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
        // Whichever crate of the workspace this is compiled into.
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

fn config(port: u16) -> String {
    format!(
        "server.bolt.enabled=true\nserver.bolt.listen_address=127.0.0.1:{port}\n\
         server.http.enabled=false\nserver.https.enabled=false\nserver.default_listen_address=127.0.0.1\n\
         dbms.security.auth_enabled=true\ndbms.usage_report.enabled=false\nserver.memory.pagecache.size=64m\n"
    )
}

fn tls(certificates: &Path) -> String {
    format!(
        "dbms.ssl.policy.bolt.enabled=true\ndbms.ssl.policy.bolt.client_auth=NONE\n\
         dbms.ssl.policy.bolt.base_directory={}\ndbms.ssl.policy.bolt.private_key=key.pem\n\
         dbms.ssl.policy.bolt.public_certificate=cert.pem\nserver.bolt.tls_level=OPTIONAL\n",
        certificates.display()
    )
}
