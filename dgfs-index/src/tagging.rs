//! Looks at the contents of files: what kind each is at once, what it says a moment after its last change.
//!
//! Never reads a file whose owner does not want it read, never trusts a content: all but the kind is found out by worker
//! processes with limits. Always: what is found belongs to a version of the data, and is looked for again after a kill.
//!
//! Reading order: [`queue`] (who is due) → [`look`] (what is known of a file and whether to look) → [`found`] (what the index
//! keeps of what workers say); [`large`] (files that taggers do not read to their end); [`commands`] (what people ask of taggers).

mod commands;
mod found;
mod large;
mod look;
mod numbers;
mod queue;

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};
use tokio::time::Instant;

use dgfs_client::config::{VfsConfig, VfsDeps};
use dgfs_client::reader::{Reader, Snapshot};
use dgfs_proto::ids::Ino;
use dgfs_proto::status::Status;
use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::metrics::{MetricSet, show};
use dgfs_taggers::Job;
use dgfs_taggers::external::{External, load_all};
use dgfs_taggers::pool::{Pool, PoolConfig};
use dgfs_taggers::protocol::{Answer, Found};
use dgfs_taggers::sandbox::Limits;

use crate::index::Index;
use crate::store::{Findings, StoreError};
use crate::tagging::commands::Pause;
use crate::tagging::large::Large;
use crate::tagging::look::{Look, Stage};
use crate::tagging::numbers::TaggerNumbers;
use crate::tagging::queue::{Due, Queue};

/// The tagger that tells kinds.
pub(crate) const KIND: &str = "type";
/// Grows when the same bytes would be of another kind.
pub(crate) const KIND_VERSION: u32 = 1;
/// Says that all taggers have looked at a content.
pub(crate) const CONTENT: &str = "content";

/// The word that makes `dgfs` and `dgfs-index` workers which look at contents.
pub const WORKER: &str = "tagger-worker";

/// Changes taken from the index at a time.
const CHANGES_MAX: usize = 4096;
/// Files whose kind is told in one transaction.
const KINDS_AT_ONCE: usize = 64;
/// Files read at the same time for that.
const READS_AT_ONCE: usize = 8;
/// Pause after an error of the index or of storage.
const PAUSE: Duration = Duration::from_secs(1);

/// What looking at contents needs.
pub struct TaggingParts {
    /// Where findings go.
    pub index: Arc<Index>,
    /// Where contents come from.
    pub contents: (VfsConfig, VfsDeps),
    /// The program that runs [`dgfs_taggers::worker::start`], and the words before those that it is given.
    pub worker: Vec<OsString>,
    /// Workers at the same time.
    pub workers: usize,
    /// Where users register taggers of their own (`docs/TAGGERS.md`).
    pub registrations: PathBuf,
    /// A directory for copies of what those read; what lies in it goes. Beside it lies the mark that says that taggers pause.
    pub spool: PathBuf,
}

/// See the module.
pub struct Tagging {
    index: Arc<Index>,
    contents: (VfsConfig, VfsDeps),
    /// Made when the metadata service answers.
    reader: OnceCell<Reader>,
    pool: Pool,
    externals: Vec<External>,
    spool: PathBuf,
    /// Whose word counts as having looked at a content.
    wanted: Vec<(String, u32)>,
    workers: usize,
    queue: Mutex<Queue>,
    large: Large,
    pause: Pause,
    poked: Notify,
    /// Changes of the index up to here are in the queue.
    seen: AtomicU64,
    /// Files under way.
    busy: AtomicU64,
    examined: AtomicU64,
    failed: AtomicU64,
    numbers: TaggerNumbers,
}

/// This program as a worker that looks at contents: by the link of the process, since its file may have been replaced by a
/// newer one, or removed.
#[must_use]
pub fn worker_command() -> Vec<OsString> {
    vec![OsString::from("/proc/self/exe"), OsString::from(WORKER)]
}

/// Changes whenever a tagger's version does, or there is one more.
pub(crate) fn content_version() -> u32 {
    dgfs_taggers::builtin().iter().map(|tagger| 1 + tagger.version()).sum()
}

impl Tagging {
    /// Nothing is looked at before [`Self::run`].
    #[must_use]
    pub fn new(parts: TaggingParts) -> Arc<Self> {
        let TaggingParts { index, contents, worker, workers, registrations, spool } = parts;
        let externals = registered(&registrations, &worker);
        let mut wanted = vec![(CONTENT.to_owned(), content_version())];
        wanted.extend(externals.iter().map(|tagger| (tagger.name().to_owned(), tagger.version())));
        if let Err(error) = emptied(&spool) {
            tracing::warn!(%error, spool = %spool.display(), "copies for taggers that users registered cannot be made");
        }
        let pause = Pause::beside(&spool);
        let built_in = dgfs_taggers::builtin();
        let names = [CONTENT].into_iter().chain(built_in.iter().map(|tagger| tagger.name()));
        let numbers = TaggerNumbers::new(names.chain(externals.iter().map(External::name)));
        let pool = Pool::new(PoolConfig { command: worker, workers, limits: Limits::default() });
        Arc::new(Self {
            index,
            contents,
            reader: OnceCell::new(),
            pool,
            externals,
            spool,
            wanted,
            workers: workers.max(1),
            queue: Mutex::new(Queue::default()),
            large: Large::default(),
            pause,
            poked: Notify::new(),
            seen: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            examined: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            numbers,
        })
    }

    /// Taggers that are to look at every file, with their versions.
    #[must_use]
    pub fn versions(&self) -> Vec<(String, u32)> {
        let mut versions = vec![(KIND.to_owned(), KIND_VERSION)];
        versions.extend(self.wanted.iter().cloned());
        versions
    }

    /// Shows its numbers in `set`; once.
    ///
    /// # Panics
    /// When the names are taken.
    pub fn register(self: &Arc<Self>, set: &MetricSet) {
        self.numbers.register(set);
        let waiting = set.gauge("dgfs_index_tagger_queue", "Files that wait for taggers, or are looked at");
        let tagging = Arc::downgrade(self);
        set.before_render(move || {
            let Some(tagging) = tagging.upgrade() else { return };
            let (waits, busy) = (tagging.queue.lock().len() as u64, tagging.busy.load(Ordering::Acquire));
            show(&waiting, waits + busy);
        });
    }

    /// Looks at what changes until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        tokio::select! {
            () = self.connect() => {}
            () = shutdown.asked() => return,
        }
        tokio::select! {
            () = self.look_on(shutdown) => {}
            // What it has not kept is looked for again after the next start.
            () = self.hash_large() => {}
        }
    }

    async fn look_on(&self, shutdown: Shutdown) {
        let mut applied = self.index.subscribe();
        let mut generation = self.index.generation();
        loop {
            if self.index.generation() != generation {
                generation = self.index.generation();
                self.seen.store(0, Ordering::Release);
            }
            applied.borrow_and_update();
            let step = async {
                if self.pause.is_on() {
                    return Ok(false);
                }
                let more = self.learn().await?;
                Ok::<bool, StoreError>(self.look_at_due().await? || more)
            };
            let stepped = tokio::select! {
                stepped = step => stepped,
                () = shutdown.asked() => return,
            };
            let wait = match stepped {
                Ok(true) => continue,
                // What is due waits for the word that ends it.
                Ok(false) if self.pause.is_on() => None,
                Ok(false) => self.queue.lock().next_due(),
                Err(error) => {
                    tracing::warn!(%error, "what taggers found could not be kept; trying again");
                    Some(Instant::now() + PAUSE)
                }
            };
            let due = async {
                match wait {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                changed = applied.changed() => if changed.is_err() { return },
                () = self.poked.notified() => {}
                () = shutdown.asked() => return,
            }
        }
    }

    async fn connect(&self) {
        let connect = || {
            let (config, deps) = self.contents.clone();
            Reader::connect(config, deps)
        };
        while let Err(error) = self.reader.get_or_try_init(connect).await {
            tracing::warn!(%error, "contents cannot be read yet; trying again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read(&self, ino: Ino, bytes_max: usize) -> Result<Snapshot, Status> {
        let reader = self.reader.get().ok_or(Status::Unavailable)?;
        reader.read(ino, bytes_max, look::PATIENCE).await
    }

    /// Takes changed inodes from the index; were there any?
    async fn learn(&self) -> Result<bool, StoreError> {
        if self.queue.lock().is_full() {
            return Ok(false);
        }
        let (readers, after, applied) =
            (self.index.readers(), self.seen.load(Ordering::Acquire), self.index.applied().stamp);
        let page = blocking(move || readers.changes_after(after, CHANGES_MAX)).await?;
        let now = Instant::now();
        let mut queue = self.queue.lock();
        for changed in &page {
            if changed.gone {
                queue.gone(changed.ino);
            } else {
                queue.changed(changed.ino, now);
            }
        }
        // Pages have whole stamps; what belongs to no vertex is behind the last of them.
        let told = page.last().map_or(applied, |last| last.stamp);
        self.seen.store(told, Ordering::Release);
        Ok(!page.is_empty())
    }

    /// Looks at those that are due; was there anything?
    async fn look_at_due(&self) -> Result<bool, StoreError> {
        let (first, then) = self.queue.lock().take_due(Instant::now(), (KINDS_AT_ONCE, self.workers));
        if first.is_empty() && then.is_empty() {
            return Ok(false);
        }
        self.busy.store((first.len() + then.len()) as u64, Ordering::Release);
        let looked = self.look_at(first, then).await;
        self.busy.store(0, Ordering::Release);
        looked.map(|()| true)
    }

    async fn look_at(&self, first: Due, then: Due) -> Result<(), StoreError> {
        if !first.is_empty() {
            let looks = self.looks(first, Stage::Kind).await?;
            let told: Vec<Findings> = stream::iter(looks.into_iter().map(|look| self.kind(look)))
                .buffer_unordered(READS_AT_ONCE)
                .filter_map(std::future::ready)
                .collect()
                .await;
            self.keep(told).await?;
        }
        let inos = then.iter().map(|(ino, _)| *ino).collect();
        let looks = self.looks(then, Stage::Content).await?;
        let told: Vec<Findings> = stream::iter(looks.into_iter().map(|look| self.content(look)))
            .buffer_unordered(self.workers)
            .filter_map(std::future::ready)
            .collect()
            .await;
        self.keep(told).await?;
        self.queue_large(inos).await
    }

    /// What is known of those that are worth a look.
    async fn looks(&self, inos: Vec<(Ino, bool)>, stage: Stage) -> Result<Vec<Look>, StoreError> {
        let readers = self.index.readers();
        let wanted = match stage {
            Stage::Kind => vec![(KIND.to_owned(), KIND_VERSION)],
            Stage::Content => self.wanted.clone(),
        };
        blocking(move || {
            let mut looks = Vec::with_capacity(inos.len());
            for (ino, forced) in inos {
                looks.extend(Look::of(&readers, ino, (&wanted, forced))?);
            }
            Ok(looks)
        })
        .await
    }

    async fn keep(&self, findings: Vec<Findings>) -> Result<(), StoreError> {
        if findings.is_empty() {
            return Ok(());
        }
        let index = Arc::clone(&self.index);
        blocking(move || index.put_findings(&findings)).await
    }

    /// Tells a file's kind from its beginning.
    async fn kind(&self, look: Look) -> Option<Findings> {
        let snapshot = match self.read(look.ino, look::KIND_BYTES_MAX).await {
            Ok(snapshot) => snapshot,
            Err(status) => {
                tracing::debug!(ino = look.ino.get(), %status, "a file's beginning could not be read; it is tried with its content");
                return None;
            }
        };
        Some(found::kind(&look, &snapshot))
    }

    /// Lets the taggers look at a file's content, unless they know it.
    async fn content(&self, look: Look) -> Option<Findings> {
        let snapshot = match self.read(look.ino, dgfs_taggers::job::BYTES_MAX).await {
            Ok(snapshot) => snapshot,
            Err(status) => {
                tracing::debug!(ino = look.ino.get(), %status, "a file could not be read; its content is looked at after its next change");
                return None;
            }
        };
        let key = found::content_key(&look, &snapshot);
        let readers = self.index.readers();
        let knows = |(tagger, version): &(String, u32)| {
            readers.is_examined((&key.0, &key.1), tagger, *version).unwrap_or(false)
        };
        let known = self.wanted.iter().all(knows);
        if known && !look.forced {
            return Some(found::known(&look, &snapshot, key));
        }
        let job = look.job(&snapshot);
        self.examined.fetch_add(1, Ordering::Relaxed);
        let began = Instant::now();
        let examined = self.pool.examine(&job).await;
        self.numbers.built_in(&examined, began.elapsed());
        match examined {
            Ok(mut answer) => {
                self.ask_externals(&job, &mut answer).await;
                let passing = answer.failures.iter().any(|failed| failed.passing);
                self.ended(look.ino, (!answer.failures.is_empty()).then_some(passing));
                Some(found::content(&snapshot, (key, answer)))
            }
            Err(error) => {
                tracing::info!(ino = look.ino.get(), %error, "taggers failed on a file");
                self.ended(look.ino, Some(error.is_passing()));
                Some(found::failed(&look, &snapshot, (key, error.to_string())))
            }
        }
    }

    /// A look has ended; `failed`: not well, and whether for a reason that may pass.
    fn ended(&self, ino: Ino, failed: Option<bool>) {
        self.failed.fetch_add(u64::from(failed.is_some()), Ordering::Relaxed);
        let mut queue = self.queue.lock();
        if failed != Some(true) {
            queue.settled(ino);
        } else if !queue.failed_in_passing(ino, Instant::now()) {
            tracing::warn!(ino = ino.get(), "taggers failed on a file for the last time; a change of it tries again");
        }
    }

    /// Lets those taggers look that users registered; one that does not want the kind has nothing to say.
    async fn ask_externals(&self, job: &Job<'_>, answer: &mut Answer) {
        for tagger in &self.externals {
            if !tagger.wants(&answer.kind) {
                let (name, version) = (tagger.name().to_owned(), tagger.version());
                answer.findings.push(Found { name, version, findings: dgfs_taggers::Findings::default() });
                continue;
            }
            let began = Instant::now();
            let examined = tagger.examine(job, &answer.kind, &self.spool).await;
            self.numbers.registered(tagger.name(), examined.as_ref().err(), began.elapsed());
            match examined {
                Ok(found) => answer.findings.push(found),
                Err(failed) => answer.failures.push(failed),
            }
        }
    }
}

/// Taggers that users registered; what is wrong with one costs it alone.
fn registered(directory: &Path, worker: &[OsString]) -> Vec<External> {
    let (found, refused) = load_all(directory, worker);
    for error in refused {
        tracing::warn!(%error, "a tagger is not registered");
    }
    let mut taken: Vec<String> = dgfs_taggers::builtin().iter().map(|tagger| tagger.name().to_owned()).collect();
    taken.extend([KIND.to_owned(), CONTENT.to_owned()]);
    let mut externals = Vec::new();
    for tagger in found {
        if taken.iter().any(|name| name == tagger.name()) {
            tracing::warn!(tagger = tagger.name(), "a tagger is not registered: another one has its name");
        } else {
            taken.push(tagger.name().to_owned());
            externals.push(tagger);
        }
    }
    externals
}

/// Copies that a killed process left are removed.
fn emptied(spool: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(spool) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(spool)
}

/// Work on the tables, which may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Damaged("work on it panicked: see the log")))
}
