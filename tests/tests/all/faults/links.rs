//! Links that are cut, both ways or one, or lose packets.
//!
//! Never leaves a network behind. Always: Prometheus reaches everybody all the time, so that what it sees is the cut itself.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dgfs_tests::cluster::{Cluster, ClusterPlan};
use dgfs_tests::faults::{Fault, Stage};
use dgfs_tests::monitored::{Monitored, Pace, with_metrics};
use dgfs_tests::network::Network;
use dgfs_tests::process::{kill9, spawn};
use dgfs_tests::spread::Spread;
use dgfs_tests::watched::Watched;

/// Storage servers, each on a host of its own.
const SERVERS: usize = 3;
/// The host of the mount.
const MOUNT: usize = SERVERS;
/// The host of the server that is cut off from something.
const SERVER: usize = 1;
/// So long after its last answer a mount has no session any more.
const ENDED: &str = "dgfs_client_meta_silent_seconds > 20";
/// More than one packet of a hundred, and not one of a few.
const LOSSES: &str = "rate(dgfs_peer_lost_packets_total{job=\"dgfs-mount\"}[30s]) / rate(dgfs_peer_sent_packets_total[30s]) > 0.01 \
and rate(dgfs_peer_lost_packets_total[30s]) > 1";
/// Files that are written again and again.
const FILES: usize = 64;

/// In the order in which they happen.
pub(super) const ROWS: &[Fault] = &[
    Fault {
        name: "link between a mount and a storage server cut",
        inject: |stage| {
            write_on(stage);
            let network = network(stage);
            network.lose(MOUNT, network.address(SERVER));
            network.lose(SERVER, network.address(MOUNT));
        },
        heal: |stage| {
            let network = network(stage);
            network.find(MOUNT, network.address(SERVER));
            network.find(SERVER, network.address(MOUNT));
            stage.held.clear();
        },
        metric: "dgfs_peer_up{job=\"dgfs-mount\",role=\"stored\"} == 0",
        alert: "DgfsLinkCut",
        panel: ("Who talks to whom", "Peers that are not reached"),
        short: false,
    },
    Fault {
        name: "answers of a storage server to a mount lost",
        inject: |stage| {
            write_on(stage);
            let network = network(stage);
            network.lose(SERVER, network.address(MOUNT));
        },
        heal: |stage| {
            let network = network(stage);
            network.find(SERVER, network.address(MOUNT));
            stage.held.clear();
        },
        metric: "dgfs_peer_silent_seconds{job=\"dgfs-mount\",role=\"stored\"} > 4",
        alert: "DgfsLinkCut",
        panel: ("Who talks to whom", "Peers that are not reached"),
        short: false,
    },
    Fault {
        name: "what a storage server sends to the metadata service lost",
        inject: |stage| network(stage).lose(SERVER, network(stage).services()),
        heal: |stage| network(stage).find(SERVER, network(stage).services()),
        metric: "dgfs_stored_meta_silent_seconds > 8",
        alert: "DgfsLinkCut",
        panel: ("One server", "Metadata service silent for"),
        short: false,
    },
    Fault {
        name: "what a mount sends to the metadata service lost",
        inject: |stage| network(stage).lose(MOUNT, network(stage).services()),
        heal: |stage| {
            network(stage).find(MOUNT, network(stage).services());
            // It may have been cut off for longer than its session lasts.
            stage.watched.mount.mount_again();
        },
        metric: "dgfs_client_meta_silent_seconds > 8",
        alert: "DgfsLinkCut",
        panel: ("Mounts", "Metadata service silent for"),
        short: false,
    },
    Fault {
        name: "mount cut off from the metadata service until its session was ended",
        inject: |stage| {
            write_on(stage);
            let network = network(stage);
            network.lose(MOUNT, network.services());
            stage.monitored.prometheus.wait_for(ENDED);
            network.find(MOUNT, network.services());
        },
        heal: |stage| {
            stage.held.clear();
            stage.watched.mount.mount_again();
        },
        metric: "dgfs_client_session_ended == 1",
        alert: "DgfsMountFenced",
        panel: ("Mounts", "Session ended"),
        short: false,
    },
    Fault {
        name: "every twelfth packet from a mount to a storage server lost",
        inject: |stage| {
            write_on(stage);
            network(stage).lose_some(MOUNT, network(stage).address(SERVER));
        },
        heal: |stage| {
            network(stage).lose_none(MOUNT);
            stage.held.clear();
        },
        metric: LOSSES,
        alert: "DgfsPacketLoss",
        panel: ("Who talks to whom", "Share of packets lost"),
        short: false,
    },
];

/// Storage servers and the mount are hosts; metadata services, index and Prometheus are on the machine.
pub(super) fn stage() -> Stage {
    let plan = ClusterPlan { servers: SERVERS as u32, replicas: 2, ..ClusterPlan::default() };
    let mut cluster = Cluster::start(plan);
    let _ = with_metrics(&mut cluster);
    let spread = Spread::over(&mut cluster, Network::new(SERVERS + 1), SERVERS);
    let monitored = Monitored::start(&mut cluster, Pace::AsGiven, "");
    let (address, place) = (spread.network.address(MOUNT), spread.network.place(MOUNT));
    let watched = Watched::at(&mut cluster, address, Some(place));
    let stage = Stage { held: Vec::new(), monitored, watched, disk: None, spread: Some(spread), neo4j: None, cluster };
    super::in_use(stage)
}

fn network(stage: &Stage) -> &Network {
    &stage.spread.as_ref().expect("daemons on a network").network
}

/// The mount talks to all servers, and goes on to do so until nothing is held any more.
fn write_on(stage: &mut Stage) {
    let root = stage.watched.mount.join("written");
    fs::create_dir_all(&root).unwrap();
    for number in 0..FILES {
        fs::write(root.join(format!("f{number}")), vec![1; 256 << 10]).unwrap();
    }
    stage.held.push(Box::new(Writer::start(&root)));
}

/// A process that writes files and syncs them. Not a thread: whatever this process starts would wait for its open files.
struct Writer(Child);

impl Writer {
    fn start(root: &Path) -> Self {
        // A sync that fails at its deadline is followed by the next one.
        let turn = format!("n=$(( (n + 1) % {FILES} )); head -c 262144 /dev/urandom > f$n; sync f$n");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("n=0; while :; do {turn}; done")]).current_dir(root);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(spawn(command).expect("start a shell"))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        kill9(self.0.id());
        let _ = self.0.wait();
    }
}
