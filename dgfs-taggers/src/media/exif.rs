//! What a camera has written into a picture (EXIF 2.32): when, where, with what.
//!
//! Never reads a maker's private notes. A broken directory gives what could be read of it.

use std::io::Cursor;

use exif::{Exif, Field, In, Reader, Tag, Value};

use super::place;
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};

/// See the module.
pub(crate) struct ExifTagger;

impl Tagger for ExifTagger {
    fn name(&self) -> &'static str {
        "exif"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        const KINDS: &[&str] =
            &["image/jpeg", "image/tiff", "image/heic", "image/avif", "image/png", "image/webp", "image/x-canon-cr3"];
        KINDS.contains(&kind.mime.as_str()) || kind.mime.starts_with("image/x-")
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let read = Reader::new().continue_on_error(true).read_from_container(&mut Cursor::new(job.bytes));
        let mut is_partial = false;
        match read.or_else(|error| error.distill_partial_result(|_| is_partial = true)) {
            Ok(exif) => describe(&exif, out),
            // Most pictures that were not taken have none.
            Err(exif::Error::NotFound(_)) => return Ok(()),
            Err(_) if kind.mime.starts_with("image/x-") => return Ok(()),
            Err(error) => return Err(TaggerError::malformed("EXIF", error)),
        }
        if is_partial {
            out.note("a part of the EXIF data is broken and was not read");
        }
        Ok(())
    }
}

fn describe(exif: &Exif, out: &mut Findings) {
    if let Some(camera) = camera(exif) {
        out.text_value("camera", &camera);
    }
    for (tag, key) in [(Tag::LensModel, "lens"), (Tag::Software, "generator"), (Tag::ImageDescription, "description")] {
        if let Some(text) = text(exif, tag) {
            out.text_value(key, &text);
        }
    }
    if let Some(name) = text(exif, Tag::Artist) {
        crate::documents::author(&name, out);
    }
    let times = [(Tag::DateTimeOriginal, Tag::OffsetTimeOriginal), (Tag::DateTimeDigitized, Tag::OffsetTimeDigitized)];
    let taken = times.iter().find_map(|(time, zone)| {
        let zone = text(exif, *zone).unwrap_or_default();
        crate::dates::parse(&format!("{}{zone}", text(exif, *time)?))
    });
    if let Some(seconds) = taken {
        out.time("taken", seconds);
    }
    let numbers = [
        (Tag::FNumber, "aperture"),
        (Tag::ExposureTime, "exposure-time"),
        (Tag::FocalLength, "focal-length"),
        (Tag::PhotographicSensitivity, "iso"),
        (Tag::Orientation, "exif-orientation"),
    ];
    for (tag, key) in numbers {
        if let Some(number) = exif.get_field(tag, In::PRIMARY).and_then(|field| number(field, 0)) {
            out.number(key, number);
        }
    }
    let latitude = degrees(exif, Tag::GPSLatitude, Tag::GPSLatitudeRef, "S");
    let longitude = degrees(exif, Tag::GPSLongitude, Tag::GPSLongitudeRef, "W");
    if let (Some(latitude), Some(longitude)) = (latitude, longitude) {
        place::describe(latitude, longitude, out);
    }
}

/// `Canon EOS R5`: makers put their name into the model, or not.
fn camera(exif: &Exif) -> Option<String> {
    let model = text(exif, Tag::Model)?;
    let make = text(exif, Tag::Make).unwrap_or_default();
    let first = make.split_whitespace().next().unwrap_or_default();
    let has_make = model.to_lowercase().starts_with(&first.to_lowercase());
    Some(if has_make { model } else { format!("{make} {model}") })
}

fn text(exif: &Exif, tag: Tag) -> Option<String> {
    let Value::Ascii(lines) = &exif.get_field(tag, In::PRIMARY)?.value else { return None };
    let text = String::from_utf8_lossy(lines.first()?).trim_matches([' ', '\0']).to_owned();
    (!text.is_empty()).then_some(text)
}

fn number(field: &Field, at: usize) -> Option<f64> {
    let number = match &field.value {
        Value::Rational(list) => list.get(at)?.to_f64(),
        Value::SRational(list) => list.get(at)?.to_f64(),
        Value::Float(list) => f64::from(*list.get(at)?),
        Value::Double(list) => *list.get(at)?,
        other => f64::from(other.get_uint(at)?),
    };
    number.is_finite().then_some(number)
}

/// Degrees, minutes and seconds as one number, negative on the side of `negative`.
fn degrees(exif: &Exif, tag: Tag, side: Tag, negative: &str) -> Option<f64> {
    let field = exif.get_field(tag, In::PRIMARY)?;
    let part = |at| number(field, at).unwrap_or(0.0);
    let degrees = number(field, 0)? + part(1) / 60.0 + part(2) / 3600.0;
    Some(if text(exif, side)?.eq_ignore_ascii_case(negative) { -degrees } else { degrees })
}

#[cfg(test)]
mod tests {
    use super::ExifTagger;
    use crate::findings::Findings;
    use crate::job::Job;
    use crate::kind::kind_of;
    use crate::tagger::Tagger;
    use crate::testing::jpeg_with_exif;

    #[test]
    fn a_photograph_says_when_where_and_with_what() {
        let bytes = jpeg_with_exif();
        let job = Job { name: "a.jpg", size: bytes.len() as u64, bytes: &bytes, mime_hint: None, charset_hint: None };
        let mut out = Findings::default();
        ExifTagger.examine(&job, &kind_of(&job), &mut out).unwrap();
        assert_eq!(out.text_of("camera"), Some("Canon EOS R5"));
        assert_eq!(out.time_of("taken"), Some(1_709_634_030));
        assert_eq!(out.text_of("place").map(|place| &place[..5]), Some("Hefei"));
        assert!(out.marks.iter().any(|mark| mark.tag == "place:cn:hefei"));
        assert_eq!(out.number_of("exif-orientation"), Some(6.0));
    }
}
