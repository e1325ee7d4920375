//! The tagger of pictures: size, shape, colours, perceptual hash.
//!
//! Never decodes more than [`PIXELS_MAX`]: of a larger picture the size alone is told. Formats without a decoder here
//! are left to `exif`.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::look;
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};

/// Pixels of a picture that is decoded: cameras and telephones have up to 50 million.
const PIXELS_MAX: u64 = 64 << 20;
/// Bytes that a decoder may take: four for each pixel, and its own tables.
const DECODER_BYTES_MAX: u64 = 400 << 20;
/// Side of the square that colours are counted in.
const COLOUR_SIDE: u32 = 64;

/// See the module.
pub(crate) struct ImageTagger;

impl Tagger for ImageTagger {
    fn name(&self) -> &'static str {
        "image"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        format(kind).is_some()
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let broken = |error: image::ImageError| TaggerError::malformed("picture", error);
        let format = format(kind).ok_or_else(|| TaggerError::malformed("picture", "no decoder for this kind"))?;
        let mut decoder = decoder(job.bytes, format).map_err(broken)?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(broken)?;
        let is_turned = orientation.to_exif() >= 5;
        let (width, height) = if is_turned { (height, width) } else { (width, height) };
        describe_shape(width, height, out);
        if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODER_BYTES_MAX {
            out.note(&format!("{width} by {height} pixels: of at most {PIXELS_MAX} the content is looked at"));
            return Ok(());
        }
        if !job.is_whole() {
            out.note("the picture is longer than what was read");
            return Ok(());
        }
        let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
        // Shrunk first, so that turning costs nothing.
        let mut tiny = picture.thumbnail_exact(look::SIDE, look::SIDE);
        tiny.apply_orientation(orientation);
        out.fingerprints.image = Some(look::perceptual_hash(&tiny.to_rgb8()));
        picture = picture.thumbnail_exact(COLOUR_SIDE, COLOUR_SIDE);
        describe_colours(&picture, out);
        Ok(())
    }
}

/// A whole picture as it is meant to be seen, for taggers that look at what it shows.
///
/// # Errors
///
/// It has no decoder here, is broken, cut off, or of more than [`PIXELS_MAX`] pixels.
#[cfg(feature = "models")]
pub(crate) fn upright(job: &Job<'_>, kind: &Kind) -> Result<image::RgbImage, TaggerError> {
    let broken = |error: image::ImageError| TaggerError::malformed("picture", error);
    let format = format(kind).ok_or_else(|| TaggerError::malformed("picture", "no decoder for this kind"))?;
    let mut decoder = decoder(job.bytes, format).map_err(broken)?;
    let (width, height) = decoder.dimensions();
    let too_much = |reason| TaggerError::TooMuch { format: "picture", reason };
    if u64::from(width) * u64::from(height) > PIXELS_MAX || decoder.total_bytes() > DECODER_BYTES_MAX {
        return Err(too_much(format!("{width} by {height} pixels, of at most {PIXELS_MAX}")));
    }
    if !job.is_whole() {
        return Err(too_much("it is longer than what was read".to_owned()));
    }
    let orientation = decoder.orientation().map_err(broken)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(broken)?;
    picture.apply_orientation(orientation);
    Ok(picture.into_rgb8())
}

fn decoder(bytes: &[u8], format: ImageFormat) -> image::ImageResult<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODER_BYTES_MAX);
    reader.limits(limits);
    reader.into_decoder()
}

fn format(kind: &Kind) -> Option<ImageFormat> {
    match kind.mime.as_str() {
        "image/png" => Some(ImageFormat::Png),
        "image/jpeg" => Some(ImageFormat::Jpeg),
        "image/gif" => Some(ImageFormat::Gif),
        "image/webp" => Some(ImageFormat::WebP),
        "image/bmp" => Some(ImageFormat::Bmp),
        _ => None,
    }
}

/// Adds the size and the shape: also for films.
pub(crate) fn describe_shape(width: u32, height: u32, out: &mut Findings) {
    out.number("width", f64::from(width));
    out.number("height", f64::from(height));
    let shape = match width.cmp(&height) {
        std::cmp::Ordering::Greater => "landscape",
        std::cmp::Ordering::Less => "portrait",
        std::cmp::Ordering::Equal => "square",
    };
    out.text_value("orientation", shape);
}

fn describe_colours(picture: &DynamicImage, out: &mut Findings) {
    let colours = look::colours(&picture.to_rgb8());
    for colour in &colours {
        if let Some(tag) = crate::tag_name::path(&["color", colour.name]) {
            out.mark(&tag, colour.share as f32);
        }
    }
    if let Some(first) = colours.first() {
        let [red, green, blue] = first.rgb;
        out.text_value("dominant-color", &format!("#{red:02x}{green:02x}{blue:02x}"));
    }
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::ImageTagger;
    use crate::findings::Findings;
    use crate::job::Job;
    use crate::kind::kind_of;
    use crate::tagger::{Tagger, TaggerError};
    use crate::testing::{jpeg_with_exif, picture_as};

    fn examine(bytes: &[u8]) -> (Findings, Result<(), TaggerError>) {
        let job = Job { name: "a", size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
        let kind = kind_of(&job);
        assert!(ImageTagger.wants(&kind), "{kind:?}");
        let mut out = Findings::default();
        let outcome = ImageTagger.examine(&job, &kind, &mut out);
        (out, outcome)
    }

    #[test]
    fn every_format_shows_the_same_picture() {
        let formats = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Bmp];
        let mut hashes = Vec::new();
        for format in formats {
            let (out, outcome) = examine(&picture_as(format));
            assert_eq!(outcome, Ok(()));
            assert_eq!((out.number_of("width"), out.number_of("height")), (Some(96.0), Some(64.0)));
            assert_eq!(out.text_of("orientation"), Some("landscape"));
            assert!(out.marks.iter().any(|mark| mark.tag == "color:blue"), "{:?}", out.marks);
            hashes.push(out.fingerprints.image.unwrap());
        }
        assert!(hashes.iter().all(|hash| (hash ^ hashes[0]).count_ones() <= 4), "{hashes:x?}");
    }

    #[test]
    fn a_camera_held_upright_gives_a_portrait() {
        let (out, outcome) = examine(&jpeg_with_exif());
        assert_eq!((outcome, out.text_of("orientation")), (Ok(()), Some("portrait")));
    }

    #[test]
    fn a_bomb_and_a_cut_picture_are_refused() {
        let mut bomb = picture_as(ImageFormat::Bmp);
        bomb[18..22].copy_from_slice(&30_000_u32.to_le_bytes());
        bomb[22..26].copy_from_slice(&30_000_u32.to_le_bytes());
        let (out, _) = examine(&bomb);
        assert!(out.fingerprints.image.is_none());
        let png = picture_as(ImageFormat::Png);
        assert!(examine(&png[..png.len() / 2]).1.is_err());
    }
}
