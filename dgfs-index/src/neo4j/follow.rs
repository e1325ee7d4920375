//! Keeps a Neo4j server up with the index: asks a [`Source`] for batches, writes them, reconnects by itself.
//!
//! Never slows the source down: it only reads from it, and while the server is away nothing is kept here. Always: what
//! is written next is what the server says it lacks, so a lost answer, a killed server or a second writer cost nothing
//! but time; [`FollowStatus`] shows how far behind it is and why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tracing::{info, warn};

use dgfs_runtime::lifecycle::Shutdown;
use dgfs_runtime::random;

use super::alike::Alike;
use super::liken::{self, Asked};
use super::link::{Link, LinkConfig, LinkError};
use super::model::Batch;
use super::schema;
use super::sweep::sweep;
use super::write::{Applied, KnownTag, Outcome, WriteError, Writer, known_tags, look};

/// First pause after a failure.
const PAUSE_MS_MIN: u64 = 200;
/// Longest pause after a failure: a server that is back is noticed within it.
const PAUSE_MS_MAX: u64 = 5_000;
/// Pause after what only a person can mend; Neo4j itself locks a user out for 5 s after three wrong passwords.
const PAUSE_MS_REFUSED: u64 = 30_000;
/// How often an idle link is tried, so that a lost server shows in the status before there is something to write.
const PROBE: Duration = Duration::from_secs(5);

/// What the follower asks of the index.
///
/// The index is one ([`super::source`]), a test's list of changes another. Every method may be called again at any time.
/// A stamp counts the transactions of the index: it grows with every change and whenever taggers find something.
pub trait Source: Send {
    /// The stamp that the index has.
    fn applied(&mut self) -> u64;

    /// Which index counts the stamps: with another one (it was built anew) the same number means something else.
    fn line(&mut self) -> String;

    /// Does a graph with these stamps lead to what the index has? `ours`: this process wrote it. If not, everything is
    /// written anew and what is left over is swept.
    fn continues(&mut self, graph: &Applied, ours: bool) -> bool;

    /// An epoch above `epoch` that no writer for this index has had, also after a restart.
    ///
    /// # Errors
    /// A sentence: it cannot be remembered.
    fn epoch_above(&mut self, epoch: u64) -> Result<u64, String>;

    /// A link was made: this is what the graph has of the catalogue.
    fn begin(&mut self, tags: Vec<KnownTag>);

    /// Returns when the index has more than `stamp`. Dropping the future loses nothing.
    fn past(&mut self, stamp: u64) -> impl Future<Output = ()> + Send;

    /// Part `part` (from 0) of what brings the graph from `after` to what the index had when part 0 was asked for; the
    /// final one has [`Batch::last`]. Its `prev` must be `after`. `after` = 0 means everything.
    ///
    /// # Errors
    /// A sentence; the follower pauses and asks again from part 0.
    fn part(&mut self, after: u64, part: u32, epoch: u64) -> impl Future<Output = Result<Batch, String>> + Send;

    /// What is alike to each of these contents, in their order, the closest first.
    ///
    /// # Errors
    /// A sentence; the follower pauses and asks again.
    fn alike(&mut self, contents: Vec<Asked>) -> impl Future<Output = Result<Vec<Vec<Alike>>, String>> + Send;
}

/// What the follower is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowStatus {
    /// Is there a link that answered last time?
    pub connected: bool,
    /// The stamp that the index has.
    pub applied: u64,
    /// The stamp that Neo4j has, as far as known.
    pub written: u64,
    /// The stamp of which Neo4j has like contents tied, too, as far as known.
    pub likened: u64,
    /// Contents that were looked up since the start, for what is alike.
    pub lookups: u64,
    /// The end of the change log that Neo4j has, as far as known.
    pub seq: u64,
    /// Our epoch; 0 before the first link.
    pub epoch: u64,
    /// Vertices written since the start.
    pub vertices: u64,
    /// Batches written since the start.
    pub batches: u64,
    /// Times that a link was made since the start.
    pub connects: u64,
    /// What went wrong last; none while all is well.
    pub last_error: Option<String>,
    /// Another writer took over; this one has stopped.
    pub fenced: bool,
}

impl FollowStatus {
    /// Transactions of the index that Neo4j is behind.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.applied.saturating_sub(self.written)
    }
}

/// A status that others read while the follower writes it.
#[derive(Clone, Debug, Default)]
pub struct StatusHandle(Arc<Mutex<FollowStatus>>);

impl StatusHandle {
    /// What it is now.
    #[must_use]
    pub fn read(&self) -> FollowStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is not followed, and why.
    pub(super) fn fail(&self, sentence: String) {
        self.set(|status| status.last_error = Some(sentence));
    }

    fn set(&self, change: impl FnOnce(&mut FollowStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Which graph is followed, and how.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// The server.
    pub link: LinkConfig,
    /// The volume's name: a database holds one volume.
    pub volume: String,
}

#[derive(Debug, Error)]
enum FollowError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the index has no batch for Neo4j: {0}")]
    Source(String),
    #[error("the index gave a batch from {got} for a graph at {want}")]
    Prev { got: u64, want: u64 },
}

impl From<LinkError> for FollowError {
    fn from(error: LinkError) -> Self {
        Self::Write(WriteError::Link(error))
    }
}

/// Follows `source` until `shutdown`, or until another writer takes over.
pub async fn follow(config: FollowConfig, mut source: impl Source, status: StatusHandle, shutdown: Shutdown) {
    let mut follower = Follower { config, status, epoch: 0, failures: 0 };
    loop {
        let ended = tokio::select! {
            ended = follower.session(&mut source) => ended,
            () = shutdown.asked() => return,
        };
        // Without an error the index was built anew, and the graph follows in a session of its own.
        let Err(error) = ended else { continue };
        if follower.must_stop(&error) {
            return;
        }
        let pause = follower.pause(&error);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.asked() => return,
        }
    }
}

struct Follower {
    config: FollowConfig,
    status: StatusHandle,
    /// Of two writers the one with the higher epoch stays; 0: none was taken yet.
    epoch: u64,
    /// Failures since something succeeded.
    failures: u32,
}

impl Follower {
    /// One link from its making to its end: an error, or another line of the index.
    async fn session(&mut self, source: &mut impl Source) -> Result<(), FollowError> {
        let applied = source.applied();
        self.status.set(|status| status.applied = applied);
        let link = Link::open(&self.config.link)?;
        schema::ensure(&link).await?;
        let line = source.line();
        let (writer, mut applied) = self.claim(&link, source, &line).await?;
        source.begin(known_tags(&link).await?);
        self.connected(&applied);
        while source.line() == line {
            if let Some(epoch) = applied.sweep.filter(|_| applied.stamp > 0) {
                let gone = sweep(&writer, epoch).await?;
                info!(nodes = gone.nodes_gone, "the rebuilt graph is swept");
                applied.sweep = None;
            }
            let have = source.applied();
            self.status.set(|status| status.applied = have);
            if have > applied.stamp {
                applied.stamp = self.catch_up(&writer, source, applied.stamp).await?;
            }
            // By turns: neither a stream of changes nor a crowd of copies holds the other up.
            let tied = self.liken(&writer, source).await?;
            if tied || source.applied() > applied.stamp || (applied.sweep.is_some() && applied.stamp > 0) {
                continue;
            }
            let stamp = applied.stamp;
            self.status.set(|status| status.likened = stamp);
            tokio::select! {
                () = source.past(applied.stamp) => {}
                () = tokio::time::sleep(PROBE) => {
                    writer.applied().await?;
                }
            }
        }
        Ok(())
    }

    /// Takes the graph, from its beginning where it does not lead to what the index has.
    async fn claim<'a>(
        &mut self,
        link: &'a Link,
        source: &mut impl Source,
        line: &str,
    ) -> Result<(Writer<'a>, Applied), FollowError> {
        let found = look(link, &self.config.volume).await?;
        let continues = found.as_ref().is_some_and(|graph| {
            graph.line.as_deref() == Some(line) && source.continues(graph, graph.epoch == self.epoch)
        });
        // What a rebuild leaves over is told by an older epoch.
        let spent = !continues && found.as_ref().is_some_and(|graph| graph.epoch == self.epoch);
        if self.epoch == 0 || spent {
            self.epoch = source.epoch_above(self.epoch).map_err(FollowError::Source)?;
            let epoch = self.epoch;
            self.status.set(|status| status.epoch = epoch);
        }
        let (writer, applied) = Writer::claim(link, &self.config.volume, self.epoch).await?;
        if continues {
            return Ok((writer, applied));
        }
        info!(line, "the graph in Neo4j is written anew");
        writer.restart(line).await?;
        let (epoch, line) = (self.epoch, Some(line.to_owned()));
        Ok((writer, Applied { epoch, line, sweep: Some(epoch), ..Applied::default() }))
    }

    /// Writes all parts from `after` on; returns the stamp that the graph has then.
    async fn catch_up(
        &mut self,
        writer: &Writer<'_>,
        source: &mut impl Source,
        after: u64,
    ) -> Result<u64, FollowError> {
        for part in 0.. {
            let batch = source.part(after, part, self.epoch).await.map_err(FollowError::Source)?;
            if batch.prev != after {
                return Err(FollowError::Prev { got: batch.prev, want: after });
            }
            match writer.apply(&batch).await? {
                Outcome::Written(_) => self.wrote(&batch),
                // Another link of ours wrote it and its answer was lost: what the graph has is read anew.
                Outcome::Known => break,
            }
            if batch.last {
                return Ok(batch.next);
            }
        }
        let applied = writer.applied().await?;
        self.status.set(|status| (status.written, status.seq) = (applied.stamp, applied.seq));
        Ok(applied.stamp)
    }

    /// Settles some contents that are due; false: there are none.
    async fn liken(&mut self, writer: &Writer<'_>, source: &mut impl Source) -> Result<bool, FollowError> {
        let due = liken::due(writer.link()).await?;
        if due.is_empty() {
            return Ok(false);
        }
        let asked: Vec<Asked> = due.iter().map(liken::State::ask).collect();
        let (count, alike) = (asked.len() as u64, source.alike(asked).await.map_err(FollowError::Source)?);
        liken::settle(writer, &due, &alike).await?;
        self.status.set(|status| status.lookups += count);
        Ok(true)
    }

    fn connected(&mut self, applied: &Applied) {
        let (stamp, seq, failures) = (applied.stamp, applied.seq, self.failures);
        self.failures = 0;
        self.status.set(|status| {
            status.connected = true;
            status.connects += 1;
            (status.written, status.seq) = (stamp, seq);
            status.last_error = None;
        });
        info!(seq, failures, "the graph in Neo4j is followed");
    }

    fn wrote(&mut self, batch: &Batch) {
        self.status.set(|status| {
            status.batches += 1;
            status.vertices += batch.vertices.len() as u64;
            if batch.last {
                (status.written, status.seq) = (batch.next, batch.seq);
            }
        });
    }

    /// Nothing that is tried again can succeed.
    fn must_stop(&mut self, error: &FollowError) -> bool {
        let stop = matches!(error, FollowError::Write(WriteError::Fenced { .. } | WriteError::Foreign { .. }));
        self.status.set(|status| {
            status.connected = false;
            status.fenced = matches!(error, FollowError::Write(WriteError::Fenced { .. }));
            status.last_error = Some(error.to_string());
        });
        if stop {
            warn!(%error, "the graph in Neo4j is not followed any more");
        } else if self.failures == 0 {
            // Once for each outage; the status keeps telling.
            warn!(%error, "the graph in Neo4j is behind; trying again");
        }
        stop
    }

    fn pause(&mut self, error: &FollowError) -> Duration {
        let passes = match error {
            FollowError::Write(WriteError::Link(error)) => error.passes(),
            FollowError::Write(WriteError::Gap { .. }) | FollowError::Source(_) => true,
            FollowError::Write(WriteError::Batch(_) | WriteError::Fenced { .. } | WriteError::Foreign { .. })
            | FollowError::Prev { .. } => false,
        };
        let doubled = PAUSE_MS_MIN.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        if passes { jittered(doubled.min(PAUSE_MS_MAX)) } else { jittered(PAUSE_MS_REFUSED) }
    }
}

/// Between half of `ms` and all of it, so that writers do not come back at one instant.
fn jittered(ms: u64) -> Duration {
    // Without randomness the pause is the longest one.
    let part = random::number().map_or(0, |number| number % (ms / 2 + 1));
    Duration::from_millis(ms - part)
}

#[cfg(test)]
mod tests {
    use super::{FollowStatus, jittered};

    #[test]
    fn a_pause_is_between_half_and_whole() {
        for _ in 0..1_000 {
            let ms = jittered(200).as_millis();
            assert!((100..=200).contains(&ms), "{ms}");
        }
    }

    #[test]
    fn an_index_that_is_rebuilt_behind_the_graph_shows_no_lag() {
        let status = FollowStatus { applied: 3, written: 7, ..FollowStatus::default() };
        assert_eq!(status.lag(), 0);
        assert_eq!(FollowStatus { applied: 9, ..status }.lag(), 2);
    }
}
