//! What counting by chunk costs: a measurement, run by hand.

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use dgfs_proto::chunk::{ChunkCall, ChunkReply, ChunkRequest};
use dgfs_proto::ids::{ChunkId, Epoch};
use dgfs_runtime::channel::{Channel, ChunkProtocol, Role};
use dgfs_runtime::pki::ClusterAuthority;
use dgfs_runtime::quic::channel::QuicChannel;
use dgfs_runtime::quic::server::QuicServer;

use super::{Random, TestDir, data_patch, id, options, put_of};
use crate::service::StoreService;
use crate::store::{Store, StoreOptions};
use crate::uses::Used;

const ROUNDS: usize = 30;
const CALLS: u64 = 2_000;
/// Chunks of the table besides those that are read.
const CHUNKS: u64 = 1_000_000;
const READ: u64 = 10_000;

/// One round of a kind of work; seconds of processor time of a call.
type Work = fn(&mut Bench) -> f64;

/// Seconds of the processor that this thread, or process, has had.
fn cpu_seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that outlives the call.
    assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Bench {
    store: Arc<Store>,
    random: Random,
    next: u64,
    _directory: TestDir,
}

impl Bench {
    fn new(count_uses: bool) -> Self {
        let directory = TestDir::new();
        let store = Store::open(StoreOptions {
            count_uses,
            segment_bytes: 64 << 20,
            maintain: true,
            ..options(directory.path())
        });
        let bench = Self { store: store.unwrap(), random: Random(99), next: READ, _directory: directory };
        for chunk in 1..=READ {
            bench.put(chunk, &[7; 16_384]);
        }
        for number in 1..=CHUNKS {
            bench.store.count_use(ChunkId::new((1 << 40) + number).unwrap(), 1, Used::Read(1));
        }
        bench
    }

    fn put(&self, chunk: u64, bytes: &[u8]) {
        let request = put_of(id(chunk, chunk), None, vec![data_patch(0, bytes)]);
        self.store.put(&request, &Bytes::copy_from_slice(bytes)).unwrap();
    }

    /// Seconds of one call.
    fn gets(&mut self, len: u32) -> f64 {
        let began = cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID);
        for _ in 0..CALLS {
            let chunk = 1 + self.random.below(READ);
            self.store.get(id(chunk, chunk), 0, len).unwrap();
        }
        (cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID) - began) / CALLS as f64
    }

    fn puts(&mut self, len: usize) -> f64 {
        let bytes = vec![9; len];
        let began = cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID);
        for _ in 0..CALLS {
            self.next += 1;
            self.put(self.next, &bytes);
        }
        (cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID) - began) / CALLS as f64
    }
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().min_by(f64::total_cmp).unwrap()
}

fn tell(name: &str, with: &[f64], without: &[f64]) {
    // Other programs only ever make a round slower.
    let (with, without) = (least(with) * 1e6, least(without) * 1e6);
    println!("{name}: {with:.3} µs with, {without:.3} µs without, ratio {:.4}", with / without);
}

/// Both in turn, round by round: calls within the process, the worst case.
#[test]
#[ignore = "a measurement of some minutes: run it with --ignored --nocapture"]
fn cost_of_counting() {
    let (mut on, mut off) = (Bench::new(true), Bench::new(false));
    let works: [(&str, Work); 4] = [
        ("get of 4 KiB", |bench| bench.gets(4096)),
        ("get of 16 KiB", |bench| bench.gets(16_384)),
        ("put of 4 KiB", |bench| bench.puts(4096)),
        ("put of 16 KiB", |bench| bench.puts(16_384)),
    ];
    for (name, work) in works {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            with.push(work(&mut on));
            without.push(work(&mut off));
        }
        tell(name, &with, &without);
    }
    let began = cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID);
    on.store.tend();
    let round = cpu_seconds(libc::CLOCK_THREAD_CPUTIME_ID) - began;
    println!("one round of the background thread at {CHUNKS} chunks: {:.1} ms", round * 1e3);
}

/// A daemon and its client, over QUIC on loopback, in one process: what a whole call costs both of them.
#[tokio::test]
#[ignore = "a measurement of some minutes: run it with --ignored --nocapture"]
async fn cost_of_counting_over_the_network() {
    let authority_directory = TestDir::new();
    let authority = ClusterAuthority::create(authority_directory.path()).unwrap();
    let identity = |role| authority.issue(role, "bench", &["127.0.0.1".to_owned()], 1).unwrap();
    let (stored, client) = (identity(Role::Stored), identity(Role::Client));
    let benches = [Bench::new(true), Bench::new(false)];
    let mut ways = Vec::new();
    for bench in &benches {
        let server = QuicServer::bind((Ipv4Addr::LOCALHOST, 0).into(), &stored).unwrap();
        server.serve::<ChunkProtocol>(StoreService::new(Arc::clone(&bench.store)), &[Role::Client]).unwrap();
        let address = server.local_address().unwrap().to_string();
        ways.push((QuicChannel::<ChunkProtocol>::new(address, &client, Role::Stored).unwrap(), server));
    }
    for len in [4096, 16_384] {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..2 * ROUNDS {
            let (channel, _) = &ways[round % 2];
            let mut random = Random(round as u64 + 5);
            let began = cpu_seconds(libc::CLOCK_PROCESS_CPUTIME_ID);
            for _ in 0..CALLS {
                let chunk = 1 + random.below(READ);
                let request = ChunkRequest::Get { id: id(chunk, chunk), offset: 0, len };
                let call = ChunkCall { request_id: 1, map_epoch: Epoch(0), session: None, request };
                let (reply, _) = channel.call(call, Bytes::new(), None).await.unwrap();
                assert!(matches!(reply, ChunkReply::Data { .. }));
            }
            times[round % 2].push((cpu_seconds(libc::CLOCK_PROCESS_CPUTIME_ID) - began) / CALLS as f64);
        }
        tell(&format!("get of {len} bytes over QUIC"), &times[0], &times[1]);
    }
}
