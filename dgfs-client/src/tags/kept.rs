//! What the graph said a moment ago, for the look-ups that follow: programs ask for a path several times, and after a listing for
//! each name in it.
//!
//! Never keeps a refusal, or anything while other sessions may change the volume. Always: an answer is forgotten with the next
//! change that this mount makes, whatever it is, and after [`KEPT_FOR`], because what taggers find is no change; what is kept is at
//! most [`KEPT_MAX`] answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use dgfs_proto::attr::Timestamp;
use dgfs_proto::graph::Viewer;
use dgfs_proto::graph::answer::Hit;
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;

use crate::core::Core;
use crate::tags::path::Spot;

/// How late another one's change may be seen (`docs/TAGS.md`, Consistency).
const KEPT_FOR: Duration = Duration::from_secs(1);
/// Answers kept: those of some ten pages of a listing, at about 300 bytes.
const KEPT_MAX: usize = 8192;

/// What a question was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum About {
    /// What a name in this directory leads to.
    Name(Vec<String>, Vec<u8>),
    /// The first page of this directory.
    Page(Vec<String>),
    /// Where an inode lies.
    Place(Ino),
    /// When the graph changed last.
    Changed,
}

/// A question: by whom, seen from which directory, about what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    uid: u32,
    gids: Vec<u32>,
    scope: Ino,
    about: About,
}

impl Question {
    fn new(viewer: &Viewer, scope: Ino, about: About) -> Self {
        Self { uid: viewer.uid, gids: viewer.gids.clone(), scope, about }
    }

    /// What a name leads to.
    pub(crate) fn name(viewer: &Viewer, at: &Spot, name: &[u8]) -> Self {
        Self::new(viewer, at.scope, About::Name(at.components.clone(), name.to_vec()))
    }

    /// The first page of a directory.
    pub(crate) fn page(viewer: &Viewer, at: &Spot) -> Self {
        Self::new(viewer, at.scope, About::Page(at.components.clone()))
    }

    /// When anything that could be listed changed last. Before it goes through a directory the kernel asks for its attributes.
    pub(crate) fn changed(viewer: &Viewer, at: &Spot) -> Self {
        Self::new(viewer, at.scope, About::Changed)
    }

    /// Where an inode lies.
    pub(crate) fn place(viewer: &Viewer, scope: Ino, ino: Ino) -> Self {
        Self::new(viewer, scope, About::Place(ino))
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file.
    Entry(Ino),
    /// What the grammar says.
    Directory,
    /// Names from the scope down.
    Path(Vec<Name>),
    /// Hits from the lowest inode on, and whether they are all.
    Page(Vec<Hit>, bool),
    /// The last change.
    Changed(Timestamp),
}

/// The moment of a question: its answer may be kept as long as nothing was changed since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    changes: u64,
    forgotten: u64,
    at: Instant,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Kept {
    answers: Mutex<HashMap<Question, (Moment, Found)>>,
    /// Inodes listed last, at most [`KEPT_MAX`]: places of neighbours are asked for together.
    listed: Mutex<Vec<Ino>>,
    /// Grows when everything is forgotten.
    forgotten: AtomicU64,
}

impl Kept {
    /// Now; none while what is known may become untrue without this mount.
    pub(crate) fn now(&self, core: &Core) -> Option<Moment> {
        let (changes, forgotten) = (core.link.changes(), self.forgotten.load(Ordering::Acquire));
        (core.link.sole() && core.link.kept.is_empty()).then(|| Moment { changes, forgotten, at: Instant::now() })
    }

    fn still_true(&self, core: &Core, (moment, found): &(Moment, Found)) -> Option<Found> {
        let now = self.now(core)?;
        let unchanged = (now.changes, now.forgotten) == (moment.changes, moment.forgotten);
        (unchanged && now.at.saturating_duration_since(moment.at) < KEPT_FOR).then(|| found.clone())
    }

    /// What is known of a question.
    pub(crate) fn get(&self, core: &Core, question: &Question) -> Option<Found> {
        self.still_true(core, self.answers.lock().get(question)?)
    }

    /// What is known of a question, for once: the next one is to be asked anew.
    pub(crate) fn take(&self, core: &Core, question: &Question) -> Option<Found> {
        let taken = self.answers.lock().remove(question)?;
        self.still_true(core, &taken)
    }

    /// Keeps what was asked at `moment`.
    pub(crate) fn put(&self, moment: Option<Moment>, question: Question, found: Found) {
        let Some(moment) = moment else { return };
        let mut answers = self.answers.lock();
        if answers.len() >= KEPT_MAX {
            answers.retain(|_, (kept, _)| kept.changes == moment.changes && kept.at + KEPT_FOR > moment.at);
        }
        if answers.len() >= KEPT_MAX {
            answers.clear();
        }
        answers.insert(question, (moment, found));
    }

    /// A page is listed, the first one or a further one.
    pub(crate) fn list(&self, is_first: bool, inos: impl Iterator<Item = Ino>) {
        let mut listed = self.listed.lock();
        if is_first {
            listed.clear();
        }
        listed.extend(inos);
        let excess = listed.len().saturating_sub(KEPT_MAX);
        listed.drain(..excess);
    }

    /// An inode and those that were listed behind it, `count` at most.
    pub(crate) fn listed_from(&self, ino: Ino, count: usize) -> Vec<Ino> {
        let listed = self.listed.lock();
        let from = listed.iter().position(|known| *known == ino);
        from.map_or_else(|| vec![ino], |from| listed.iter().skip(from).take(count).copied().collect())
    }

    /// Somebody waits for what taggers find, or has them look: everything is asked anew.
    pub(crate) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.answers.lock().clear();
    }
}
