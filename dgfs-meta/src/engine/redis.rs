//! The engine on a Redis (or Valkey) server: a partition is a sorted set, a batch is one function call.
//!
//! Never knows what a row means and never repeats a call by itself (a batch carries a
//! number, so the caller may). Always true: an answered commit has gone through what the
//! durability level names; a call ends within five seconds; no connection is used before
//! the server behind it was found safe.

mod checks;
mod inspect;
mod link;
mod probe;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::HashSet;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use redis::{Client, ConnectionAddr, Value};
use tokio::runtime::Handle;

use dgfs_proto::ids::Epoch;
use dgfs_proto::limits::{STANDBY_MS, WRITER_LEASE_MS};

use self::inspect::Inspector;
use self::link::Link;
use self::probe::Probe;
use self::wire::{Partition, Status, WAIT_MS};
use super::{
    Batch, Durability, Engine, EngineError, EngineFuture, EngineHealth, EngineTime, RowKey, RowRange, Table,
    WriterLease,
};

pub use self::checks::RedisDurability;

/// Rows in one batch, and keys in one load: below the million arguments a command may have,
/// and what Redis does in well under a second.
pub const ROWS_PER_CALL_MAX: usize = 200_000;
/// Bytes in one batch: below the gigabyte a client may send at once.
pub const BATCH_BYTES_MAX: usize = 256 << 20;
const VOLUME_NAME_BYTES_MAX: usize = 64;
/// Partitions remembered to have rows; beyond, all are asked for again.
const KNOWN_MAX: usize = 64 << 10;

/// An engine on a server. Calls may come from any thread; they run on the runtime that connected.
pub struct RedisEngine {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    /// Everything that does not wait.
    calls: Link,
    /// Commits: a large answer of a load does not stand before them.
    commits: Link,
    /// Calls that make their connection wait for the disk.
    waits: Link,
    inspector: Arc<Inspector>,
    probe: Probe,
    durability: RedisDurability,
    server: String,
    writer_key: String,
    /// Names this object among all that take the lease.
    token: String,
    attempts: AtomicU64,
    last_batch: AtomicU64,
    call_count: AtomicU64,
    /// Partitions that have rows, as far as this writer put them there.
    known: Mutex<HashSet<Partition>>,
    lease_ms: u64,
}

impl RedisEngine {
    /// Connects and makes sure that the server is safe for the volume.
    /// `url` is `redis://[user[:password]@]host[:port][/db]` or `unix:///path`. Needs a tokio runtime.
    ///
    /// # Errors
    /// `Refused` with the mending command when the server is too old, evicts, keeps no log, is a replica or does not
    /// take the password; `Unavailable` when it cannot be reached.
    pub async fn connect(url: &str, volume: &str, durability: RedisDurability) -> Result<Self, EngineError> {
        Self::connect_with_lease(url, volume, durability, WRITER_LEASE_MS).await
    }

    pub(super) async fn connect_with_lease(
        url: &str,
        volume: &str,
        durability: RedisDurability,
        lease_ms: u64,
    ) -> Result<Self, EngineError> {
        check_volume_name(volume)?;
        let client = Client::open(url).map_err(|error| {
            EngineError::Refused(format!(
                "the Redis address is not usable ({error}): write redis://[user:password@]host:port/db or unix:///path"
            ))
        })?;
        let (server, cli) = name_server(client.get_connection_info().addr());
        let inspector = Arc::new(Inspector::new(durability, cli));
        let link = || Link::new(client.clone(), Arc::clone(&inspector));
        let shared = Shared {
            calls: link(),
            commits: link(),
            waits: link(),
            probe: Probe::new(client.clone(), (durability, Arc::clone(&inspector))),
            durability,
            server,
            writer_key: format!("dgfs:{{{volume}}}:writer"),
            token: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
            attempts: AtomicU64::new(0),
            last_batch: AtomicU64::new(0),
            call_count: AtomicU64::new(0),
            known: Mutex::new(HashSet::new()),
            lease_ms,
            inspector: Arc::clone(&inspector),
        };
        shared.calls.inspect_again().await.map_err(|error| error.explain(&shared.server))?;
        Ok(Self { shared: Arc::new(shared), runtime: Handle::current() })
    }

    /// What could not be checked about the server, or is weaker than one may think, in sentences.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.shared.inspector.warnings()
    }

    /// Runs on our runtime: the caller may poll from a thread without one, and a caller who goes away leaves
    /// no half-made connection.
    fn run<T, F>(&self, work: impl FnOnce(Arc<Shared>) -> F + Send + 'static) -> EngineFuture<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        let (shared, runtime) = (Arc::clone(&self.shared), self.runtime.clone());
        Box::pin(async move {
            match runtime.spawn(work(shared)).await {
                Ok(outcome) => outcome,
                Err(error) => Err(EngineError::Unavailable(format!("the call to Redis was cut short: {error}"))),
            }
        })
    }
}

impl Engine for RedisEngine {
    fn acquire(&self, holder: String) -> EngineFuture<Option<WriterLease>> {
        self.run(async move |shared: Arc<Shared>| shared.acquire(&holder).await)
    }

    fn renew(&self, epoch: Epoch) -> EngineFuture<()> {
        self.run(async move |shared: Arc<Shared>| shared.keep("dgfs_renew_v2", epoch).await)
    }

    fn release(&self, epoch: Epoch) -> EngineFuture<()> {
        self.run(async move |shared: Arc<Shared>| shared.keep("dgfs_release_v2", epoch).await)
    }

    fn load(&self, keys: Vec<RowKey>) -> EngineFuture<Vec<Option<Vec<u8>>>> {
        self.run(async move |shared: Arc<Shared>| shared.load(&keys).await)
    }

    fn list(&self, range: RowRange) -> EngineFuture<Vec<(RowKey, Vec<u8>)>> {
        self.run(async move |shared: Arc<Shared>| shared.list(range).await)
    }

    fn partitions(&self, table: Table, from: u64, limit: usize) -> EngineFuture<Vec<u64>> {
        self.run(async move |shared: Arc<Shared>| shared.partitions(table, from, limit).await)
    }

    fn commit(&self, epoch: Epoch, batch: Batch, durability: Durability) -> EngineFuture<()> {
        self.run(async move |shared: Arc<Shared>| {
            shared.commit(epoch, &batch).await?;
            match durability {
                Durability::Handed => Ok(()),
                Durability::Synced => shared.sync().await,
            }
        })
    }

    fn sync(&self) -> EngineFuture<()> {
        self.run(async move |shared: Arc<Shared>| shared.sync().await)
    }

    fn is_server(&self) -> bool {
        true
    }

    fn health(&self) -> EngineFuture<EngineHealth> {
        self.run(async move |shared: Arc<Shared>| {
            shared.probe.ask().await.map_err(|error| error.explain(&shared.server))
        })
    }

    fn wait_here(&self, who: Vec<u8>) -> EngineFuture<EngineTime> {
        self.run(async move |shared: Arc<Shared>| {
            let call = wire::wait_here(&shared.writer_key, &shared.token, &who);
            wire::time(shared.call_one(&shared.waits, call).await?)
        })
    }

    fn waiting(&self, writer_ms: u64) -> EngineFuture<Vec<Vec<u8>>> {
        self.run(async move |shared: Arc<Shared>| {
            let call = wire::waiting(&shared.writer_key, STANDBY_MS, writer_ms);
            wire::texts(shared.call_one(&shared.waits, call).await?)
        })
    }

    fn describe(&self) -> String {
        let facts = self.shared.inspector.facts();
        format!("{} {}, {}", facts.product.to_lowercase(), facts.version, self.shared.durability)
    }

    fn calls(&self) -> u64 {
        self.shared.call_count.load(Ordering::Relaxed)
    }
}

impl Shared {
    async fn acquire(&self, holder: &str) -> Result<Option<WriterLease>, EngineError> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let token = format!("{} {holder}", self.token);
        let call = wire::acquire(&self.writer_key, holder, &token, attempt, self.lease_ms);
        match wire::status(self.call_one(&self.calls, call).await?)? {
            Status::Taken { epoch, last_batch } => {
                self.last_batch.store(last_batch, Ordering::Relaxed);
                // Another writer may have emptied them.
                self.known.lock().clear();
                Ok(Some(WriterLease { epoch: Epoch(epoch), last_batch }))
            }
            Status::Held => Ok(None),
            other => Err(self.unexpected(other)),
        }
    }

    async fn keep(&self, function: &str, epoch: Epoch) -> Result<(), EngineError> {
        let call = wire::keep(&self.writer_key, function, epoch.0, self.lease_ms);
        let status = wire::status(self.call_one(&self.calls, call).await?)?;
        self.done(status, self.last_batch.load(Ordering::Relaxed))
    }

    async fn load(&self, keys: &[RowKey]) -> Result<Vec<Option<Vec<u8>>>, EngineError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        check_size("a load", keys.len(), 0)?;
        let answer = self.call_one(&self.calls, wire::load(&self.writer_key, keys)).await?;
        wire::rows(answer, keys)
    }

    async fn list(&self, range: RowRange) -> Result<Vec<(RowKey, Vec<u8>)>, EngineError> {
        if range.from > range.to || range.limit == 0 {
            return Ok(Vec::new());
        }
        let answer = self.call_one(&self.calls, wire::list(&self.writer_key, range)).await?;
        wire::page(answer, range)
    }

    async fn partitions(&self, table: Table, from: u64, limit: usize) -> Result<Vec<u64>, EngineError> {
        let answer = self.call_one(&self.calls, wire::partitions(&self.writer_key, table, from, limit)).await?;
        wire::numbers(answer)
    }

    async fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), EngineError> {
        let bytes = batch.rows.iter().map(|(_, value)| value.as_ref().map_or(0, Vec::len)).sum();
        check_size("a batch", batch.rows.len(), bytes)?;
        let mut call = {
            let known = self.known.lock();
            wire::commit(&self.writer_key, epoch.0, batch, |partition| known.contains(&partition))
        };
        if let RedisDurability::Replicas(count) = self.durability {
            call.cmd("WAIT").arg(count).arg(WAIT_MS);
        }
        let mut answers = self.call(&self.commits, call).await?.into_iter();
        let status = wire::status(answers.next().unwrap_or(Value::Nil))?;
        self.done(status, batch.number.saturating_sub(1))?;
        if let RedisDurability::Replicas(wanted) = self.durability {
            let received = wire::count(answers.next().unwrap_or(Value::Nil))?;
            if received < u64::from(wanted) {
                return Err(EngineError::Unavailable(format!(
                    "{received} of {wanted} replicas of Redis at {} have the batch: start the missing ones",
                    self.server
                )));
            }
        }
        self.last_batch.store(batch.number, Ordering::Relaxed);
        self.note_partitions(batch);
        Ok(())
    }

    /// A batch was committed: which partitions surely have rows now.
    fn note_partitions(&self, batch: &Batch) {
        let mut known = self.known.lock();
        if known.len() > KNOWN_MAX {
            known.clear();
        }
        let partition = |key: &RowKey| (key.table, key.partition);
        for (key, _) in batch.rows.iter().filter(|(_, value)| value.is_none()) {
            known.remove(&partition(key));
        }
        known.extend(batch.rows.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| partition(key)));
    }

    async fn sync(&self) -> Result<(), EngineError> {
        if self.durability == RedisDurability::Always || !self.inspector.facts().waits_for_log {
            return Ok(());
        }
        // WAITAOF covers the writes of its own connection: so it makes one, behind all that were answered.
        let mut call = wire::touch(&self.writer_key, self.call_count.load(Ordering::Relaxed));
        call.cmd("WAITAOF").arg(1).arg(0).arg(WAIT_MS);
        let answer = self.call(&self.waits, call).await?.pop().unwrap_or(Value::Nil);
        if wire::synced_here(answer)? {
            return Ok(());
        }
        Err(EngineError::Unavailable(format!("Redis at {} did not sync its log within {WAIT_MS} ms", self.server)))
    }

    async fn call_one(&self, link: &Link, call: redis::Pipeline) -> Result<Value, EngineError> {
        Ok(self.call(link, call).await?.pop().unwrap_or(Value::Nil))
    }

    async fn call(&self, link: &Link, call: redis::Pipeline) -> Result<Vec<Value>, EngineError> {
        self.call_count.fetch_add(1, Ordering::Relaxed);
        let error = match link.call(&call).await {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        if !error.wants_library() {
            return Err(error.explain(&self.server));
        }
        // Somebody flushed the functions. Nothing of the call was done.
        self.call_count.fetch_add(1, Ordering::Relaxed);
        link.inspect_again().await.map_err(|error| error.explain(&self.server))?;
        link.call(&call).await.map_err(|error| error.explain(&self.server))
    }

    fn done(&self, status: Status, expected: u64) -> Result<(), EngineError> {
        match status {
            Status::Done => Ok(()),
            Status::Fenced { newer } => Err(EngineError::Fenced { newer: Epoch(newer) }),
            Status::Regressed { at } => Err(EngineError::Regressed { at, expected }),
            other => Err(self.unexpected(other)),
        }
    }

    fn unexpected(&self, status: Status) -> EngineError {
        EngineError::Damaged(format!("Redis at {} gave an answer that does not fit the call: {status:?}", self.server))
    }
}

fn check_volume_name(volume: &str) -> Result<(), EngineError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !volume.is_empty() && volume.len() <= VOLUME_NAME_BYTES_MAX && volume.bytes().all(plain) {
        return Ok(());
    }
    Err(EngineError::Refused(format!(
        "{volume:?} cannot name a volume in Redis: use 1 to {VOLUME_NAME_BYTES_MAX} letters, digits, dots, dashes and underscores"
    )))
}

fn check_size(what: &str, rows: usize, bytes: usize) -> Result<(), EngineError> {
    if rows <= ROWS_PER_CALL_MAX && bytes <= BATCH_BYTES_MAX {
        return Ok(());
    }
    Err(EngineError::Refused(format!(
        "{what} of {rows} rows and {bytes} bytes is more than Redis takes at once ({ROWS_PER_CALL_MAX} rows, {BATCH_BYTES_MAX} bytes): split it"
    )))
}

/// The server for sentences (without its password), and how a person reaches it.
fn name_server(address: &ConnectionAddr) -> (String, String) {
    match address {
        ConnectionAddr::Tcp(host, port) => (format!("{host}:{port}"), format!("redis-cli -h {host} -p {port}")),
        ConnectionAddr::Unix(path) => (path.display().to_string(), format!("redis-cli -s {}", path.display())),
        other => (other.to_string(), "redis-cli".to_owned()),
    }
}
