//! What people ask of taggers: which there are, to look again, to pause.
//!
//! Never asks who asks: the service does. Always: a pause holds until somebody ends it, also over a restart.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use dgfs_proto::graph::request::TaggerCommand;
use dgfs_proto::graph::{GraphAnswer, GraphRequest, Viewer};

use crate::service::Extension;
use crate::tagging::{CONTENT, KIND, Tagging};

/// The file that says that taggers pause; it has no content.
const MARK: &str = "taggers-paused";
/// Characters of a name that a refusal repeats at most.
const NAME_CHARS_MAX: usize = 64;

/// Whether taggers pause.
pub(super) struct Pause {
    on: AtomicBool,
    mark: PathBuf,
}

impl Pause {
    /// As its mark beside `spool` says. One that cannot be looked for is none.
    pub(super) fn beside(spool: &Path) -> Self {
        let mark = spool.with_file_name(MARK);
        Self { on: AtomicBool::new(mark.exists()), mark }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Sets it for now and for the next start. Where it cannot be kept, it holds for now.
    fn set(&self, on: bool) -> io::Result<()> {
        self.on.store(on, Ordering::Release);
        if on {
            return File::create(&self.mark).map(drop);
        }
        match std::fs::remove_file(&self.mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Tagging {
    fn list(&self) -> String {
        let mut lines = Vec::new();
        for tagger in dgfs_taggers::builtin() {
            lines.push(serde_json::json!({ "tagger": tagger.name(), "version": tagger.version(), "built-in": true }));
        }
        for tagger in &self.externals {
            let (name, version) = (tagger.name(), tagger.version());
            lines.push(match tagger.off() {
                None => serde_json::json!({ "tagger": name, "version": version, "built-in": false }),
                Some(off) => serde_json::json!({ "tagger": name, "version": version, "built-in": false, "off": off }),
            });
        }
        let (waiting, again) = {
            let queue = self.queue.lock();
            (queue.len(), queue.retries())
        };
        lines.push(serde_json::json!({
            "paused": self.pause.is_on(),
            "waiting": waiting,
            "waiting-for-hash": self.large.len(),
            "waiting-for-another-try": again,
            "failed": self.index.readers().failed().ok(),
            "examined-since-start": self.examined.load(Ordering::Relaxed),
            "failed-since-start": self.failed.load(Ordering::Relaxed),
            "workers-started": self.pool.workers_started(),
            "limits": self.pool.in_force(),
        }));
        lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    fn has(&self, name: &str) -> bool {
        [KIND, CONTENT].contains(&name)
            || dgfs_taggers::builtin().iter().any(|tagger| tagger.name() == name)
            || self.externals.iter().any(|tagger| tagger.name() == name)
    }

    fn command(&self, command: TaggerCommand) -> GraphAnswer {
        match command {
            TaggerCommand::List => GraphAnswer::Text(self.list()),
            TaggerCommand::Pause(on) => {
                let kept = self.pause.set(on);
                self.poked.notify_one();
                match kept {
                    Ok(()) => GraphAnswer::Done,
                    Err(error) => GraphAnswer::Denied(format!(
                        "it is so until the next start, for which it could not be kept: {error}"
                    )),
                }
            }
            TaggerCommand::Run { tagger: Some(name), ino: _ } if !self.has(&name) => {
                let name: String = name.chars().take(NAME_CHARS_MAX).collect();
                GraphAnswer::Denied(format!("no tagger is called {name:?}; dgfs tagger ls shows which there are"))
            }
            // All of them look at a file together.
            TaggerCommand::Run { tagger: _, ino } => {
                self.queue.lock().force(ino, Instant::now());
                self.poked.notify_one();
                GraphAnswer::Done
            }
        }
    }
}

impl Extension for Tagging {
    fn answer(&self, _viewer: Viewer, request: GraphRequest) -> BoxFuture<'static, GraphAnswer> {
        let answer = match request {
            GraphRequest::Tagger(command) => self.command(command),
            _ => GraphAnswer::Denied("taggers do not answer this".to_owned()),
        };
        Box::pin(std::future::ready(answer))
    }

    fn jobs(&self) -> u64 {
        let unlearned = u64::from(self.index.applied().stamp > self.seen.load(Ordering::Acquire));
        self.queue.lock().len() as u64 + self.large.len() as u64 + self.busy.load(Ordering::Acquire) + unlearned
    }
}

#[cfg(test)]
mod tests {
    use super::Pause;

    /// It was forgotten at a restart.
    #[test]
    fn a_pause_holds_until_it_is_ended() {
        let directory = std::env::temp_dir().join(format!("dgfs-index-pause-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let spool = directory.join("spool");
        assert!(!Pause::beside(&spool).is_on());
        Pause::beside(&spool).set(true).unwrap();
        assert!(Pause::beside(&spool).is_on());
        Pause::beside(&spool).set(false).unwrap();
        assert!(!Pause::beside(&spool).is_on());
        Pause::beside(&spool).set(false).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(Pause::beside(&spool).set(true).is_err(), "nowhere to keep it");
    }
}
