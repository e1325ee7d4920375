//! The tagger of sound: artist, album, title, genre, year, duration.
//!
//! Never decodes sound and never looks at covers. Tags of every common kind (ID3, Vorbis, MP4, APE, RIFF) are read.

use std::io::Cursor;

use lofty::config::ParseOptions;
use lofty::file::{AudioFile, TaggedFileExt};
use lofty::probe::Probe;
use lofty::tag::{Accessor, Tag};

use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::{Class, Kind};
use crate::tagger::{Tagger, TaggerError};

/// See the module.
pub(crate) struct AudioTagger;

impl Tagger for AudioTagger {
    fn name(&self) -> &'static str {
        "audio"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        const OTHER: &[&str] = &["audio/midi", "audio/amr", "audio/x-dsf", "audio/l16"];
        kind.class == Class::Audio && !OTHER.contains(&kind.mime.as_str())
    }

    fn examine(&self, job: &Job<'_>, _kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let mut options = ParseOptions::new();
        options.read_cover_art(false);
        let probe = Probe::new(Cursor::new(job.bytes)).options(options);
        let probe = probe.guess_file_type().map_err(|error| TaggerError::malformed("sound", error))?;
        let file = probe.read().map_err(|error| TaggerError::malformed("sound", error))?;
        let properties = file.properties();
        let seconds = properties.duration().as_secs_f64();
        if seconds > 0.0 && job.is_whole() {
            out.number("duration", seconds);
        }
        let numbers = [
            (properties.audio_bitrate(), "bitrate"),
            (properties.sample_rate(), "sample-rate"),
            (properties.channels().map(u32::from), "channels"),
        ];
        for (number, key) in numbers {
            if let Some(number) = number.filter(|number| *number > 0) {
                out.number(key, f64::from(number));
            }
        }
        // What the first tag does not say, the next may.
        for tag in file.primary_tag().into_iter().chain(file.tags()) {
            describe(tag, out);
        }
        if !job.is_whole() {
            out.note("the duration of a file that was not read whole is not known");
        }
        Ok(())
    }
}

fn describe(tag: &Tag, out: &mut Findings) {
    for (text, key) in [(tag.title(), "title"), (tag.album(), "album"), (tag.genre(), "genre")] {
        if let Some(text) = text {
            out.text_value(key, &text);
        }
    }
    if let Some(artist) = tag.artist() {
        if out.text_of("artist").is_none() {
            out.link(LinkKind::Author, &artist);
        }
        out.text_value("artist", &artist);
    }
    if let Some(genre) = tag.genre() {
        out.mark(&genre.to_lowercase(), 0.8);
    }
    if let Some(track) = tag.track() {
        out.number("track", f64::from(track));
    }
    if let Some(date) = tag.date() {
        out.number("year", f64::from(date.year));
    }
    if let Some(comment) = tag.comment() {
        out.append_text(&comment);
    }
}

#[cfg(test)]
mod tests {
    use super::AudioTagger;
    use crate::findings::{Findings, LinkKind};
    use crate::job::Job;
    use crate::kind::kind_of;
    use crate::tagger::{Tagger, TaggerError};
    use crate::testing::{mp3, wav};

    fn examine(bytes: &[u8]) -> (Findings, Result<(), TaggerError>) {
        let job = Job { name: "a", size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
        let kind = kind_of(&job);
        assert!(AudioTagger.wants(&kind), "{kind:?}");
        let mut out = Findings::default();
        let outcome = AudioTagger.examine(&job, &kind, &mut out);
        (out, outcome)
    }

    #[test]
    fn tags_and_duration_are_read() {
        let (out, outcome) = examine(&mp3());
        assert_eq!(outcome, Ok(()));
        assert_eq!((out.text_of("title"), out.text_of("artist")), (Some("Song"), Some("Someone")));
        assert!(out.links.iter().any(|link| link.kind == LinkKind::Author && link.target == "Someone"));
        let seconds = out.number_of("duration").unwrap();
        assert!((2.0..3.5).contains(&seconds), "{seconds}");
        let (out, outcome) = examine(&wav());
        assert_eq!((outcome, out.number_of("duration"), out.number_of("channels")), (Ok(()), Some(1.0), Some(1.0)));
    }

    #[test]
    fn broken_sound_is_refused() {
        assert!(examine(b"fLaC\0\0\0\x22").1.is_err());
    }
}
