//! Reads the boxes of MP4, QuickTime and 3GP (ISO/IEC 14496-12).
//!
//! Never follows more boxes than its bound nor nests deeper than the path it looks for.

use super::video::Film;

/// Boxes of one level that are looked at.
const BOXES_MAX: usize = 10_000;
/// Tracks that are looked at.
const TRACKS_MAX: usize = 100;
/// Seconds from 1904, where these files begin to count, to 1970.
const EPOCH: i64 = 2_082_844_800;

/// The film in `bytes`; `None` without a whole movie header.
pub(crate) fn read(bytes: &[u8]) -> Option<Film> {
    let movie = child(bytes, b"moov")?;
    let mut film = Film::default();
    header(child(movie, b"mvhd")?, &mut film)?;
    for track in children(movie).filter(|(name, _)| *name == b"trak").take(TRACKS_MAX).map(|(_, track)| track) {
        track_header(track, &mut film);
    }
    if let Some(user) = child(movie, b"udta") {
        film.place = child(user, b"\xa9xyz").and_then(user_text).and_then(|text| super::place::parse(&text));
        film.title = child(user, b"\xa9nam").and_then(user_text);
        film.camera = child(user, b"\xa9mod").and_then(user_text);
    }
    Some(film)
}

/// Boxes with their content; one that says that it is longer than what holds it ends the list.
fn children(content: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let size = u64::from(u32_at(rest, 0)?);
        let name = rest.get(4..8)?;
        let (head, size) = match size {
            // To the end of the file.
            0 => (8, rest.len() as u64),
            1 => (16, u64_at(rest, 8)?),
            size => (8, size),
        };
        let size = usize::try_from(size).ok().filter(|size| *size >= head)?;
        // A box that was cut may hold the header all the same.
        let content = rest.get(head..size.min(rest.len()))?;
        rest = rest.get(size..).unwrap_or_default();
        Some((name, content))
    })
    .take(BOXES_MAX)
}

fn child<'a>(content: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    children(content).find(|(found, _)| found == name).map(|(_, content)| content)
}

/// `mvhd`: times, the number of units in a second, and the duration in units.
fn header(header: &[u8], film: &mut Film) -> Option<()> {
    let is_long = *header.first()? == 1;
    let (created, scale, duration) = if is_long {
        (u64_at(header, 4)?, u32_at(header, 20)?, u64_at(header, 24)?)
    } else {
        (u64::from(u32_at(header, 4)?), u32_at(header, 12)?, u64::from(u32_at(header, 16)?))
    };
    // Cameras without a clock write 0 or 1970.
    film.taken = i64::try_from(created).ok().map(|created| created - EPOCH).filter(|seconds| *seconds > 0);
    let is_known = scale > 0 && duration != u64::from(u32::MAX) && duration != u64::MAX;
    film.duration = is_known.then(|| duration as f64 / f64::from(scale));
    Some(())
}

/// `tkhd`: the size is 16.16 fixed point at the end, the matrix before it says whether the film is turned.
fn track_header(track: &[u8], film: &mut Film) {
    let Some(header) = child(track, b"tkhd") else { return };
    let is_long = header.first() == Some(&1);
    let at = if is_long { 52 } else { 40 };
    let (Some(width), Some(height)) = (u32_at(header, at + 36), u32_at(header, at + 40)) else { return };
    let (width, height) = (width >> 16, height >> 16);
    if width == 0 || height == 0 || film.width.is_some() {
        return;
    }
    let is_turned = u32_at(header, at) == Some(0) && u32_at(header, at + 4) != Some(0);
    (film.width, film.height) = if is_turned { (Some(height), Some(width)) } else { (Some(width), Some(height)) };
    let media = child(track, b"mdia").and_then(|media| child(media, b"minf")).and_then(|info| child(info, b"stbl"));
    let format = media.and_then(|table| child(table, b"stsd")).and_then(|table| table.get(12..16));
    film.codec = format.and_then(|name| std::str::from_utf8(name).ok()).map(|name| name.trim().to_owned());
}

/// A text of QuickTime's user data: length, language, characters.
fn user_text(content: &[u8]) -> Option<String> {
    let len = usize::from(u16::from_be_bytes(content.get(..2)?.try_into().ok()?));
    let text = content.get(4..)?.get(..len)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes)
}
