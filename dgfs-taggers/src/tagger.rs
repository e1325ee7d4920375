//! What a tagger is, and which there are.
//!
//! Never decides where a tagger runs. A tagger is a pure function of the job; its version changes with what it would
//! say, since results are kept under (content hash, name, version).

use thiserror::Error;

use crate::archive::ArchiveTagger;
use crate::documents::mail::MailTagger;
use crate::documents::office::OfficeTagger;
use crate::documents::pdf::PdfTagger;
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::media::audio::AudioTagger;
use crate::media::exif::ExifTagger;
use crate::media::image::ImageTagger;
use crate::media::video::VideoTagger;
use crate::text::tagger::TextTagger;

/// Finds something out about files of some kinds.
pub trait Tagger: Send + Sync {
    /// Lower case, `-` between words; never changes.
    fn name(&self) -> &str;
    /// Counts up when the same bytes would give other findings.
    fn version(&self) -> u32;
    /// Whether files of this kind are worth a look.
    fn wants(&self, kind: &Kind) -> bool;
    /// Adds what it finds to `out`, which stays as far as it got when an error is returned.
    ///
    /// # Errors
    ///
    /// [`TaggerError`] if the content is not what its kind says, or cannot be read within the bounds.
    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError>;
}

/// Why a tagger has nothing to say.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TaggerError {
    /// The content breaks its format.
    #[error("not a readable {format}: {reason}")]
    Malformed {
        /// Such as `PDF`.
        format: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
    /// Reading on would cost more than a job may.
    #[error("{format} exceeds a bound: {reason}")]
    TooMuch {
        /// Such as `ZIP`.
        format: &'static str,
        /// Which bound.
        reason: String,
    },
}

impl TaggerError {
    /// A [`TaggerError::Malformed`].
    pub(crate) fn malformed(format: &'static str, reason: impl ToString) -> Self {
        Self::Malformed { format, reason: crate::findings::one_line(&reason.to_string()) }
    }
}

/// The taggers that read texts out of files.
#[cfg(feature = "models")]
pub(crate) fn readers_of_text() -> [Box<dyn Tagger>; 4] {
    [Box::new(TextTagger), Box::new(PdfTagger), Box::new(OfficeTagger), Box::new(MailTagger)]
}

/// All taggers of this crate, in the order in which they run. They keep nothing between jobs.
pub fn builtin() -> Vec<Box<dyn Tagger>> {
    vec![
        Box::new(TextTagger),
        Box::new(PdfTagger),
        Box::new(OfficeTagger),
        Box::new(MailTagger),
        Box::new(ExifTagger),
        Box::new(ImageTagger),
        Box::new(AudioTagger),
        Box::new(VideoTagger),
        Box::new(ArchiveTagger),
    ]
}
