//! The tagger of films: size, duration, when and where they were taken, title.
//!
//! Never decodes a frame. A film whose header lies behind the bytes at hand gives a note instead.

use super::{boxes, image, matroska, place};
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::{Class, Kind};
use crate::tagger::{Tagger, TaggerError};

/// What a container says of its film.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Film {
    pub(crate) width: Option<u32>,
    pub(crate) height: Option<u32>,
    /// Seconds.
    pub(crate) duration: Option<f64>,
    /// Seconds since 1970.
    pub(crate) taken: Option<i64>,
    /// Degrees north and east.
    pub(crate) place: Option<(f64, f64)>,
    pub(crate) title: Option<String>,
    pub(crate) camera: Option<String>,
    pub(crate) codec: Option<String>,
}

/// See the module.
pub(crate) struct VideoTagger;

impl Tagger for VideoTagger {
    fn name(&self) -> &'static str {
        "video"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        kind.class == Class::Video
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let film = match kind.mime.as_str() {
            "video/webm" | "video/matroska" => matroska::read(job.bytes),
            "video/vnd.avi" => avi(job.bytes),
            "video/mp4" | "video/quicktime" | "video/3gpp" => boxes::read(job.bytes),
            other => {
                out.note(&format!("films of the kind {other} are not read"));
                return Ok(());
            }
        };
        let Some(film) = film else {
            if job.is_whole() {
                return Err(TaggerError::malformed("film", "its header is missing or broken"));
            }
            out.note("its header lies behind the bytes that were read");
            return Ok(());
        };
        describe(&film, out);
        Ok(())
    }
}

fn describe(film: &Film, out: &mut Findings) {
    if let (Some(width), Some(height)) = (film.width, film.height) {
        image::describe_shape(width, height, out);
    }
    if let Some(seconds) = film.duration.filter(|seconds| *seconds > 0.0) {
        out.number("duration", seconds);
    }
    if let Some(seconds) = film.taken {
        out.time("taken", seconds);
    }
    for (text, key) in [(&film.title, "title"), (&film.camera, "camera"), (&film.codec, "codec")] {
        if let Some(text) = text {
            out.text_value(key, text);
        }
    }
    if let Some((latitude, longitude)) = film.place {
        place::describe(latitude, longitude, out);
    }
}

/// The main header of AVI: microseconds of a frame, frames, width, height.
fn avi(bytes: &[u8]) -> Option<Film> {
    let head = bytes.get(..4096).unwrap_or(bytes);
    let at = head.windows(4).position(|window| window == b"avih")? + 8;
    let number = |offset: usize| head.get(at + offset..at + offset + 4)?.try_into().ok().map(u32::from_le_bytes);
    let duration = f64::from(number(0)?) * f64::from(number(16)?) / 1e6;
    Some(Film { width: number(32), height: number(36), duration: Some(duration), ..Film::default() })
}

#[cfg(test)]
mod tests {
    use super::VideoTagger;
    use crate::findings::Findings;
    use crate::job::Job;
    use crate::kind::kind_of;
    use crate::tagger::{Tagger, TaggerError};
    use crate::testing::{avi, mkv, mp4};

    fn examine(bytes: &[u8], size: usize) -> (Findings, Result<(), TaggerError>) {
        let job = Job { name: "a", size: size as u64, bytes, mime_hint: None, charset_hint: None };
        let kind = kind_of(&job);
        assert!(VideoTagger.wants(&kind), "{kind:?}");
        let mut out = Findings::default();
        let outcome = VideoTagger.examine(&job, &kind, &mut out);
        (out, outcome)
    }

    #[test]
    fn films_say_their_size_duration_time_and_place() {
        for film in [mp4(), mkv(), avi()] {
            let (out, outcome) = examine(&film, film.len());
            assert_eq!(outcome, Ok(()));
            assert_eq!((out.number_of("width"), out.number_of("height")), (Some(1920.0), Some(1080.0)));
            assert_eq!(out.number_of("duration"), Some(12.5));
        }
        let (out, _) = examine(&mp4(), mp4().len());
        assert_eq!(out.time_of("taken"), Some(1_709_634_030));
        assert!(out.marks.iter().any(|mark| mark.tag == "place:cn:hefei"));
        let (out, _) = examine(&mkv(), mkv().len());
        assert_eq!(out.text_of("title"), Some("Film"));
    }

    #[test]
    fn a_film_without_its_header_says_so() {
        let film = mp4();
        let (_, outcome) = examine(&film[..32], 32);
        assert_eq!(outcome.unwrap_err().to_string(), "not a readable film: its header is missing or broken");
        let (out, outcome) = examine(&film[..32], 1 << 30);
        assert_eq!((outcome, out.notes.len()), (Ok(()), 1));
    }
}
