//! What goes between this process and each of its peers, in both directions
//! of calling.
//!
//! Never touches a connection but to ask for its statistics, when metrics are
//! shown and when it ends: a call costs a counter. Always: at most
//! [`PEERS_MAX`] peers have numbers of their own in each direction, the others
//! are added up; a number that is shown never goes back while its peer is.
//!
//! One table for the whole process, because connections are made in many places and the kernel's sockets are the process's, too.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{Connection, ConnectionStats};

use crate::channel::{CallError, Role};
use crate::metrics::MetricSet;
use crate::metrics::computed::{Family, FamilyKind, Samples};
use crate::quic::KEEP_ALIVE;

/// Peers with numbers of their own, in each direction.
pub(crate) const PEERS_MAX: usize = 256;
/// A peer that has been away for so long makes room when the table is full.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);
/// A failure that nothing followed for so long says nothing about the peer any more: nobody calls it.
const FAILURE_HOLDS: Duration = Duration::from_secs(60);
/// A connection on which nothing came for so long reaches nobody: keep-alives of two periods were not answered.
const SILENT: Duration = KEEP_ALIVE.saturating_mul(2);
/// The peer and role that those without numbers of their own are shown as.
const OTHER: &str = "other";

/// The traffic of this process.
static TRAFFIC: LazyLock<Traffic> = LazyLock::new(Traffic::new);

const SENT: &str = "dgfs_peer_sent_bytes_total";
const RECEIVED: &str = "dgfs_peer_received_bytes_total";
const REQUESTS: &str = "dgfs_peer_requests_total";
const SENT_PACKETS: &str = "dgfs_peer_sent_packets_total";
const LOST: &str = "dgfs_peer_lost_packets_total";
const RTT: &str = "dgfs_peer_rtt_seconds";
const FAILURES: &str = "dgfs_peer_failures_total";
const UP: &str = "dgfs_peer_up";
const SILENCE: &str = "dgfs_peer_silent_seconds";
const BOTH_WAYS: &[&str] = &["peer", "role", "direction"];
const OUTGOING: &[&str] = &["peer", "role"];

const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: FamilyKind::Counter, labels }
}

const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Family {
    Family { name, help, kind: FamilyKind::Gauge, labels }
}

static FAMILIES: [Family; 9] = [
    counter(SENT, "Bytes sent to a peer in UDP payloads; out: it is called, in: it calls", BOTH_WAYS),
    counter(RECEIVED, "Bytes received from a peer in UDP payloads", BOTH_WAYS),
    counter(REQUESTS, "Calls to (out) or by (in) a peer", BOTH_WAYS),
    counter(SENT_PACKETS, "Packets sent to a peer", BOTH_WAYS),
    counter(LOST, "Packets sent to a peer that it did not acknowledge in time", BOTH_WAYS),
    gauge(RTT, "Round trip time of packets to a peer; the slowest of its connections", BOTH_WAYS),
    counter(FAILURES, "Calls to a peer that it could not be reached for, or that it did not answer in time", OUTGOING),
    gauge(
        UP,
        "1: the last call or connection to the peer succeeded, 0: it failed within the last minute, or all open connections are silent",
        OUTGOING,
    ),
    gauge(
        SILENCE,
        "How long nothing has come, at least, by that open connection to a peer by which something came last",
        OUTGOING,
    ),
];

/// Shows this process's traffic in `set`.
pub(crate) fn register(set: &MetricSet) {
    set.computed(&FAMILIES, |samples| TRAFFIC.show(Instant::now(), samples));
}

/// The numbers of the peer at `address`, which is called as a `role`.
pub(crate) fn of_called(address: &str, role: Role) -> Arc<PeerTraffic> {
    TRAFFIC.outgoing.lock().peer(address, role, Instant::now())
}

/// The numbers of the peer called `name` by its certificate, which calls from `ip`.
pub(crate) fn of_caller(name: &str, ip: IpAddr, role: Role) -> Arc<PeerTraffic> {
    TRAFFIC.incoming.lock().peer(&format!("{name}@{}", ip.to_canonical()), role, Instant::now())
}

/// Both tables.
struct Traffic {
    outgoing: Mutex<Table>,
    incoming: Mutex<Table>,
}

impl Traffic {
    fn new() -> Self {
        Self { outgoing: Mutex::new(Table::new()), incoming: Mutex::new(Table::new()) }
    }

    fn show(&self, now: Instant, samples: &mut Samples) {
        // Copies of the handles: whoever connects must not wait for statistics.
        let outgoing = self.outgoing.lock().rows();
        for row in &outgoing {
            row.show("out", samples);
            samples.add(FAILURES, &[&row.name, row.role], count(&row.peer.failures));
            let silence = row.peer.silence(now).filter(|_| row.name != OTHER);
            if let Some(silence) = silence {
                samples.add(SILENCE, &[&row.name, row.role], silence.as_secs_f64());
            }
            let up = if silence >= Some(SILENT) { Some(false) } else { row.peer.up(now) };
            if let Some(up) = up.filter(|_| row.in_use && row.name != OTHER) {
                samples.add(UP, &[&row.name, row.role], f64::from(u8::from(up)));
            }
        }
        let incoming = self.incoming.lock().rows();
        for row in &incoming {
            row.show("in", samples);
        }
    }
}

/// The peers of one direction.
struct Table {
    peers: BTreeMap<(String, &'static str), Arc<PeerTraffic>>,
    other: Arc<PeerTraffic>,
}

/// One peer of a table while it is shown.
struct Row {
    name: String,
    role: &'static str,
    peer: Arc<PeerTraffic>,
    /// A channel or a connection has it.
    in_use: bool,
}

impl Table {
    fn new() -> Self {
        Self { peers: BTreeMap::new(), other: PeerTraffic::new(Instant::now()) }
    }

    fn peer(&mut self, name: &str, role: Role, now: Instant) -> Arc<PeerTraffic> {
        let key = (name.to_owned(), role.name());
        if let Some(peer) = self.peers.get(&key) {
            return Arc::clone(peer);
        }
        if self.peers.len() >= PEERS_MAX && !self.forget_one(now) {
            return Arc::clone(&self.other);
        }
        let peer = PeerTraffic::new(now);
        self.peers.insert(key, Arc::clone(&peer));
        peer
    }

    /// Makes room by the peer that has been away longest, if for long enough.
    fn forget_one(&mut self, now: Instant) -> bool {
        let away = self.peers.iter().filter(|(_, peer)| Arc::strong_count(peer) == 1);
        let since = away.map(|(key, peer)| (peer.connections.lock().quiet_since, key)).min();
        let Some((_, key)) = since.filter(|(since, _)| now.saturating_duration_since(*since) >= FORGOTTEN_AFTER) else {
            return false;
        };
        let key = key.clone();
        self.peers.remove(&key);
        true
    }

    fn rows(&self) -> Vec<Row> {
        let row = |name: &str, role, peer: &Arc<PeerTraffic>| Row {
            name: name.to_owned(),
            role,
            in_use: Arc::strong_count(peer) > 1,
            peer: Arc::clone(peer),
        };
        let mut rows: Vec<_> = self.peers.iter().map(|((name, role), peer)| row(name, role, peer)).collect();
        if self.other.has_numbers() {
            rows.push(row(OTHER, OTHER, &self.other));
        }
        rows
    }
}

impl Row {
    fn show(&self, direction: &str, samples: &mut Samples) {
        let labels: [&str; 3] = [&self.name, self.role, direction];
        let sums = self.peer.sums();
        samples.add(SENT, &labels, as_number(sums.sent_bytes));
        samples.add(RECEIVED, &labels, as_number(sums.received_bytes));
        samples.add(REQUESTS, &labels, count(&self.peer.requests));
        samples.add(SENT_PACKETS, &labels, as_number(sums.sent_packets));
        samples.add(LOST, &labels, as_number(sums.lost_packets));
        if let Some(rtt) = sums.rtt {
            samples.add(RTT, &labels, rtt.as_secs_f64());
        }
    }
}

/// The numbers of one peer in one direction.
pub(crate) struct PeerTraffic {
    born: Instant,
    requests: AtomicU64,
    failures: AtomicU64,
    reached: AtomicBool,
    /// Milliseconds after `born`, plus 1, of the last failure; 0: the last call did not fail.
    failed_ms: AtomicU64,
    connections: Mutex<Connections>,
}

struct Connections {
    /// Bounded by the connections that a process may have.
    live: BTreeMap<u64, Live>,
    next: u64,
    closed: Sums,
    quiet_since: Instant,
}

/// A connection that has not ended.
struct Live {
    connection: Connection,
    heard: Heard,
}

/// Packets that had come by a connection when somebody looked, and when their number was seen to be another one last.
#[derive(Clone, Copy, Debug)]
struct Heard {
    packets: u64,
    at: Instant,
}

impl Heard {
    /// How long nothing has come, at least: a packet counts from when it is seen here.
    fn look(&mut self, packets: u64, now: Instant) -> Duration {
        if packets != self.packets {
            *self = Self { packets, at: now };
        }
        now.saturating_duration_since(self.at)
    }
}

/// Numbers of several connections, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    sent_bytes: u64,
    received_bytes: u64,
    sent_packets: u64,
    lost_packets: u64,
    rtt: Option<Duration>,
}

impl Sums {
    fn add(&mut self, stats: &ConnectionStats) {
        self.sent_bytes += stats.udp_tx.bytes;
        self.received_bytes += stats.udp_rx.bytes;
        self.sent_packets += stats.path.sent_packets;
        self.lost_packets += stats.path.lost_packets;
        self.rtt = self.rtt.max(Some(stats.path.rtt));
    }
}

impl PeerTraffic {
    fn new(now: Instant) -> Arc<Self> {
        let connections = Connections { live: BTreeMap::new(), next: 0, closed: Sums::default(), quiet_since: now };
        Arc::new(Self {
            born: now,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            failed_ms: AtomicU64::new(0),
            connections: Mutex::new(connections),
        })
    }

    /// Counts a call.
    pub(crate) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes how a call ended, or an attempt to connect.
    pub(crate) fn ended<T>(&self, outcome: &Result<T, CallError>) {
        match outcome {
            Ok(_) => self.succeeded(),
            Err(CallError::Unreachable { .. } | CallError::TimedOut { .. }) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                self.failed(Instant::now());
            }
            // Trying again does not help, so nothing is counted; but it is not reached.
            Err(CallError::Rejected { .. }) => self.failed(Instant::now()),
        }
    }

    /// Notes an attempt to connect: those that failed are counted by the calls that wanted it.
    pub(crate) fn connected<T>(&self, outcome: &Result<T, CallError>) {
        match outcome {
            Ok(_) => self.succeeded(),
            Err(_) => self.failed(Instant::now()),
        }
    }

    /// Counts what goes by `connection` from now on, until the answer is dropped.
    pub(crate) fn count(self: &Arc<Self>, connection: Connection) -> Counted {
        let mut connections = self.connections.lock();
        let number = connections.next;
        connections.next += 1;
        let heard = Heard { packets: 0, at: Instant::now() };
        connections.live.insert(number, Live { connection, heard });
        Counted { peer: Arc::clone(self), number }
    }

    /// Reads first: the usual call changes nothing, and then no other core has to give the line away.
    fn succeeded(&self) {
        if self.failed_ms.load(Ordering::Relaxed) != 0 {
            self.failed_ms.store(0, Ordering::Relaxed);
        }
        if !self.reached.load(Ordering::Relaxed) {
            self.reached.store(true, Ordering::Relaxed);
        }
    }

    fn failed(&self, now: Instant) {
        let since = now.saturating_duration_since(self.born).as_millis();
        self.failed_ms.store(u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
    }

    /// Is it reached? None when nobody knows.
    fn up(&self, now: Instant) -> Option<bool> {
        match self.failed_ms.load(Ordering::Relaxed) {
            0 => self.reached.load(Ordering::Relaxed).then_some(true),
            failed => {
                let at = Duration::from_millis(failed - 1);
                let holds = now.saturating_duration_since(self.born) < at + FAILURE_HOLDS;
                holds.then_some(false)
            }
        }
    }

    /// How long nothing has come, at least, by the connection by which something came last; none without an open one. Who answers
    /// on any of them is not silent: the others may lead to the process that it was before it was started again.
    fn silence(&self, now: Instant) -> Option<Duration> {
        let mut connections = self.connections.lock();
        let look = |live: &mut Live| live.heard.look(live.connection.stats().udp_rx.datagrams, now);
        connections.live.values_mut().map(look).min()
    }

    fn sums(&self) -> Sums {
        let connections = self.connections.lock();
        let mut sums = Sums { rtt: None, ..connections.closed };
        connections.live.values().for_each(|live| sums.add(&live.connection.stats()));
        sums
    }

    fn has_numbers(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0 || self.connections.lock().next > 0
    }
}

/// A connection whose traffic is counted; dropped, as soon as it ended, it is counted for good.
pub(crate) struct Counted {
    peer: Arc<PeerTraffic>,
    number: u64,
}

impl Counted {
    /// The peer it goes to.
    pub(crate) fn peer(&self) -> &PeerTraffic {
        &self.peer
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut connections = self.peer.connections.lock();
        // The handle goes after the lock: the last one of a connection closes it.
        let ended = connections.live.remove(&self.number);
        if let Some(live) = &ended {
            connections.closed.add(&live.connection.stats());
        }
        connections.quiet_since = Instant::now();
        drop(connections);
        drop(ended);
    }
}

fn count(counter: &AtomicU64) -> f64 {
    as_number(counter.load(Ordering::Relaxed))
}

/// Prometheus' numbers are floating point: exact to 2^53, which is 8 PiB.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn as_number(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
