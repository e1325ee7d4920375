//! Certificates, clocks, replicas of Redis, Neo4j, taggers, and a mount that asks without end.
//!
//! Never leaves a setting changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use dgfs_meta::engine::testing::RedisServer;
use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faults::{Fault, Stage};
use dgfs_tests::mount::Mount;
use dgfs_tests::neo4j::Server;
use dgfs_tests::process::{log_file, run, spawn, wait_until};
use dgfs_tests::program::dgfs;
use rustix::fs::{XattrFlags, setxattr};

/// How long a tool, a daemon or a replica may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Programs that ask at once.
const PROGRAMS: u32 = 8;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[
    Fault {
        name: "Neo4j stopped",
        inject: |stage| stage.neo4j.as_mut().expect("a Neo4j").kill(),
        heal: |stage| stage.neo4j.as_mut().expect("a Neo4j").restart(),
        metric: "dgfs_index_neo4j_up == 0",
        alert: "DgfsNeo4jDown",
        panel: ("Index and taggers", "Neo4j"),
        short: false,
    },
    Fault {
        name: "tagger crashing",
        inject: |stage| {
            fs::write(crashes(&stage.cluster), "").unwrap();
            fs::write(stage.watched.mount.join("crash.txt"), "words that a tagger does not survive").unwrap();
        },
        heal: |stage| fs::remove_file(crashes(&stage.cluster)).unwrap(),
        metric: "dgfs_index_tagger_jobs_total{result=\"crashed\"} > 0 unless dgfs_index_tagger_jobs_total{result=\"crashed\"} offset 2m",
        alert: "DgfsTaggerFailing",
        panel: ("Index and taggers", "Tagger jobs by result"),
        short: false,
    },
    Fault {
        name: "replica of Redis behind",
        inject: |stage| fall_behind(stage),
        heal: |stage| {
            let _ = stage.cluster.redis.command("DEL filler");
            stage.held.clear();
        },
        metric: "dgfs_meta_redis_replica_lag_bytes > 8 * 1024 * 1024",
        alert: "DgfsRedisReplicaLag",
        panel: ("Metadata and Redis", "Replica lag"),
        short: false,
    },
    Fault {
        name: "certificate about to end",
        inject: |stage| end_soon(stage),
        heal: |stage| {
            let certificate = certificate(&stage.cluster);
            fs::rename(certificate.with_extension("kept"), certificate).unwrap();
            restart(stage, "stored-3");
        },
        metric: "dgfs_certificate_expiry_timestamp_seconds - time() < 7 * 86400",
        alert: "DgfsCertificateExpires",
        panel: ("Servers", "Days until certificates end"),
        short: false,
    },
    Fault {
        name: "clock of a server five seconds ahead",
        inject: |stage| start_ahead(stage),
        heal: |stage| {
            restart(stage, "stored-3");
            stage.held.clear();
        },
        metric: "abs(dgfs_clock_offset_seconds) > 2",
        alert: "DgfsClockSkew",
        panel: ("Servers", "Clock offset"),
        short: false,
    },
    Fault {
        name: "a mount asks without end",
        inject: |stage| {
            let mount = stage.cluster.mount();
            stage.held.push(Box::new(Flood::begin(mount)));
        },
        heal: |stage| stage.held.clear(),
        metric: "rate(dgfs_meta_session_calls_total[1m]) > 300",
        alert: "DgfsClientFlood",
        panel: ("Metadata and Redis", "Calls by mount"),
        short: false,
    },
];

/// A cluster whose graph is kept in Neo4j as well, and with a tagger that crashes while a file is there.
pub(super) fn stage() -> Stage {
    let neo4j = Server::start(None);
    let plan = ClusterPlan { servers: 3, replicas: 2, neo4j: Some(&neo4j), ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let taggers = cluster.dir().join("taggers");
    fs::create_dir_all(&taggers).unwrap();
    let example = dgfs_tests::monitored::source("docs/examples/word-count-tagger.py");
    let begin = "for line in sys.stdin:\n";
    assert!(example.contains(begin), "the example reads another way");
    let crash = format!("{begin}    if Path({:?}).exists():\n        sys.exit(1)\n", crashes(&cluster));
    fs::write(taggers.join("fragile.py"), example.replace(begin, &crash)).unwrap();
    let text = "name = \"fragile\"\nversion = 1\ncommand = [\"python3\", \"fragile.py\"]\nclasses = [\"text\"]\n";
    fs::write(taggers.join("fragile.toml"), text).unwrap();
    // The index finds it when it begins.
    cluster.kill9_all(&["index-1"]);
    cluster.start_the_dead();
    let mut stage = super::watched(cluster);
    stage.neo4j = Some(neo4j);
    stage
}

/// While this file is there, the tagger crashes.
fn crashes(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("crash")
}

/// A replica that has everything stops, and its primary writes on.
fn fall_behind(stage: &mut Stage) {
    let primary = stage.cluster.redis.port().to_string();
    let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &primary]);
    wait_until("the replica has everything", PATIENCE, || {
        replica.command("INFO replication").contains("master_link_status:up")
    });
    replica.stop();
    stage.held.push(Box::new(replica));
    let _ = stage.cluster.redis.command("EVAL \"redis.call('SET','filler',string.rep('x',16777216))\" 0");
}

fn certificate(cluster: &Cluster) -> PathBuf {
    cluster.dir().join("certs/stored-3/cert.pem")
}

/// A daemon has the certificate that it had, but for its end.
fn end_soon(stage: &mut Stage) {
    let (certificate, ca) = (certificate(&stage.cluster), stage.cluster.dir().join("ca"));
    let kept = certificate.with_extension("kept");
    let (private, request) = (certificate.with_file_name("key.pem"), certificate.with_extension("request"));
    fs::rename(&certificate, &kept).unwrap();
    let path = |path: &Path| path.display().to_string();
    let (kept, certificate) = (path(&kept), path(&certificate));
    let (authority, key) = (path(&ca.join("ca.pem")), path(&ca.join("ca.key")));
    let (private, request) = (path(&private), path(&request));
    let all = ["-copy_extensions", "copyall"];
    let asked = [&["x509", "-x509toreq", "-in", &kept, "-key", &private, "-out", &request], &all[..]].concat();
    let _ = run("openssl", &asked, PATIENCE).expect_success("ask for a certificate as the one there is");
    let by = ["-CA", &authority, "-CAkey", &key, "-days", "3", "-out", &certificate];
    let signed = [&["x509", "-req", "-in", &request], &by[..], &all[..]].concat();
    let _ = run("openssl", &signed, PATIENCE).expect_success("sign a certificate again");
    restart(stage, "stored-3");
}

/// A storage daemon begins anew with a wall clock that is ahead; other clocks, by which it waits, are as they were.
fn start_ahead(stage: &mut Stage) {
    stage.cluster.kill9_all(&["stored-3"]);
    let config = stage.cluster.dir().join("stored-3.toml");
    let log = log_file(&stage.cluster.dir().join("stored-3.log"));
    let mut command = Command::new(dgfs());
    command.args(["stored".as_ref(), "--config".as_ref(), config.as_os_str()]);
    command.current_dir(stage.cluster.dir()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    // `$LIB` is the loader's: where libraries of the program's kind lie.
    command.envs([("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1"), ("FAKETIME", "+5")]);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let mut daemon = spawn(command).expect("start a daemon");
    wait_until("the daemon with another clock serves", PATIENCE, || {
        assert_eq!(daemon.try_wait().expect("look at a daemon"), None, "it ended: {}", stage.cluster.logs());
        stage.cluster.daemons().iter().any(|(role, pid)| role == "stored-3" && *pid == daemon.id())
    });
    stage.held.push(Box::new(Ahead(daemon)));
}

/// The daemon with another clock, which is gone with the stage at the latest.
struct Ahead(Child);

impl Drop for Ahead {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A mount on which some programs rename files to and fro, until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    programs: Vec<JoinHandle<()>>,
    // Last: unmounted when nobody uses it any more.
    _mount: Mount,
}

impl Flood {
    fn begin(mount: Mount) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let program = |number: u32| {
            let (stop, root) = (Arc::clone(&stop), mount.path().to_owned());
            thread::spawn(move || {
                let file = root.join(format!("asked-{number}"));
                fs::write(&file, "").expect("make a file on a mount");
                // Changes of attributes are not put off: each is a call.
                let mut value = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    value += 1;
                    setxattr(&file, "user.asked", &value.to_le_bytes(), XattrFlags::empty())
                        .expect("set an attribute on a mount");
                }
                fs::remove_file(&file).expect("remove a file of a mount");
            })
        };
        let programs = (0..PROGRAMS).map(program).collect();
        Self { stop, programs, _mount: mount }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for program in self.programs.drain(..) {
            assert!(program.join().is_ok() || thread::panicking(), "a program on the flooding mount failed");
        }
    }
}

fn restart(stage: &mut Stage, role: &str) {
    stage.cluster.kill9_all(&[role]);
    stage.cluster.start_the_dead();
}
