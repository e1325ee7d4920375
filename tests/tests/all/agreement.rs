//! Agreement under fire: whatever is killed while two mounts change files and tags, the graph is what the metadata say.
//!
//! Never waits for a quiet moment before a kill. `DGFS_FIRE_SEED` repeats the choices (not the moments), `DGFS_FIRE_OPS` says
//! after how many operations it may end.

use std::path::Path;
use std::time::Duration;

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::edges::Edges;
use dgfs_tests::fire::Fire;
use dgfs_tests::neo4j::Server;
use dgfs_tests::process::{children, kill9, run, wait_until};
use dgfs_tests::program::{dgfs, is_long};
use dgfs_tests::rng::Rng;

/// Threads that change files and tags.
const WORKERS: u64 = 4;
/// Operations of the short form, and of the long one.
const OPERATIONS: (u64, u64) = (2_400, 60_000);
/// Operations from one kill to the next: at least so many, and a number below this more.
const GAP: (u64, u64) = (30, 120);
/// How long the workers may take for them: a call that is not answered takes 5 s to say so, and may need some.
const GOES_ON: Duration = Duration::from_secs(120);
/// What is killed; each of them in every run.
const VICTIMS: &[&str] = &["index", "workers", "neo4j", "meta", "meta-1", "stored", "index and meta"];
/// How long the index may take to catch up with everything, and to be built anew.
const CATCHES_UP: Duration = Duration::from_secs(240);

#[test]
fn the_graph_is_what_the_metadata_say_whoever_is_killed() {
    let (mut rng, _) = Rng::announced("DGFS_FIRE_SEED");
    let operations = std::env::var("DGFS_FIRE_OPS").ok().map(|text| text.parse().expect("DGFS_FIRE_OPS is a number"));
    let operations = operations.unwrap_or(if is_long() { OPERATIONS.1 } else { OPERATIONS.0 });
    let mut neo4j = Server::start(None);
    let mut cluster = Cluster::start(ClusterPlan { servers: 2, neo4j: Some(&neo4j), ..ClusterPlan::default() });
    let (one, other) = (cluster.mount(), cluster.mount());
    let mut fire = Fire::start(&[one.path(), other.path()], WORKERS, &mut rng);
    let (mut kills, mut next) = (0, 0);
    while kills < VICTIMS.len() || fire.look().done < operations {
        let victim = if kills < VICTIMS.len() { VICTIMS[kills] } else { *rng.pick(VICTIMS) };
        next += GAP.0 + rng.below(GAP.1);
        wait_until("the workers go on", GOES_ON, || {
            let progress = fire.look();
            progress.done >= next || !progress.failures.is_empty()
        });
        let killed = kill(&mut cluster, &mut neo4j, victim);
        kills += 1;
        let progress = fire.look();
        println!("kill {kills}: {victim} ({killed} processes) after {} operations", progress.done);
        assert_eq!(progress.failures, [""; 0], "after the kill of {victim}");
        next = next.max(progress.done);
    }
    let progress = fire.end();
    println!("{kills} kills, {} operations, {} calls made again: {}", progress.done, progress.again, progress.kinds);
    assert_eq!(progress.failures, [""; 0]);
    for mount in [&one, &other] {
        fire.verify(mount.path()).unwrap();
    }
    caught_up(one.path());
    every_graph_is_right(one.path());
    let before = Edges::of(one.path());
    println!("{} pairs of tag and file, {} facts", before.listed.len(), before.facts.len());
    before.agree().unwrap();
    Edges::of(other.path()).same_as(&before).unwrap();
    let _ = ask(&["index", "rebuild"], one.path()).expect_success("dgfs index rebuild");
    caught_up(one.path());
    let rebuilt = Edges::of(other.path());
    rebuilt.agree().unwrap();
    rebuilt.same_as(&before).unwrap();
    every_graph_is_right(other.path());
    cluster.fsck().unwrap();
}

/// SIGKILL, and `dgfs up` as an operator would; how many processes there were.
fn kill(cluster: &mut Cluster, neo4j: &mut Server, victim: &str) -> usize {
    let killed = match victim {
        "workers" => return kill_workers(cluster),
        "neo4j" => {
            neo4j.kill();
            neo4j.restart();
            return 1;
        }
        "index and meta" => cluster.kill9("index") + cluster.kill9("meta"),
        role => cluster.kill9(role),
    };
    cluster.start_the_dead();
    killed
}

/// The processes that look at contents; the index starts others.
fn kill_workers(cluster: &Cluster) -> usize {
    let services = cluster.daemons().into_iter().filter(|(role, _)| role.starts_with("index"));
    let workers: Vec<u32> = services.flat_map(|(_, pid)| children(pid)).collect();
    for worker in &workers {
        kill9(*worker);
    }
    workers.len()
}

fn ask(words: &[&str], mount: &Path) -> dgfs_tests::process::Outcome {
    let words: Vec<&str> = words.iter().copied().chain([mount.to_str().expect("UTF-8")]).collect();
    run(dgfs(), &words, CATCHES_UP)
}

#[track_caller]
fn caught_up(mount: &Path) {
    wait_until("a new index is in its place", CATCHES_UP, || {
        let status = ask(&["index", "status", "--json"], mount).expect_success("dgfs index status");
        serde_json::from_str::<serde_json::Value>(&status).expect("JSON")["building"].is_null()
    });
    let _ = ask(&["index", "wait", "--taggers", "--timeout", "200"], mount).expect_success("dgfs index wait");
    // Files whose worker was killed under them are looked at once more half a minute later: only then nothing changes any more.
    wait_until("no file waits for another try", CATCHES_UP, || {
        let listed = ask(&["tagger", "ls", "--json", "--in"], mount).expect_success("dgfs tagger ls");
        let values: Vec<serde_json::Value> =
            listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        values.iter().any(|value| value["waiting-for-another-try"] == 0)
    });
    let _ = ask(&["index", "wait", "--taggers", "--timeout", "200"], mount).expect_success("dgfs index wait");
}

/// The graph that answers queries, and the one in Neo4j, edge by edge, once it has heard of everything.
#[track_caller]
fn every_graph_is_right(mount: &Path) {
    // What taggers found has no place in the log that Neo4j could be waited for by: it is there when the two agree.
    wait_until("Neo4j says what the index says", CATCHES_UP, || {
        ask(&["graph", "check", "--in"], mount).status.success()
    });
    let _ = ask(&["index", "check"], mount).expect_success("dgfs index check");
    let _ = ask(&["graph", "check", "--in"], mount).expect_success("dgfs graph check");
}
