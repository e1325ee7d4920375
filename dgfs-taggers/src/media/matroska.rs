//! Reads the headers of Matroska and WebM (EBML, RFC 8794 and RFC 9559).
//!
//! Never looks behind the first cluster, where the film itself begins.

use super::video::Film;

/// Elements of one level that are looked at.
const ELEMENTS_MAX: usize = 10_000;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_a966;
const TRACKS: u32 = 0x1654_ae6b;
const CLUSTER: u32 = 0x1f43_b675;
const TRACK: u32 = 0xae;
const VIDEO: u32 = 0xe0;
const WIDTH: u32 = 0xb0;
const HEIGHT: u32 = 0xba;
const CODEC: u32 = 0x86;
const SCALE: u32 = 0x002a_d7b1;
const DURATION: u32 = 0x4489;
const DATE: u32 = 0x4461;
const TITLE: u32 = 0x7ba9;
/// Seconds from 1970 to 2001, where these files begin to count.
const EPOCH: i64 = 978_307_200;
/// Nanoseconds of a unit where the file does not say.
const SCALE_DEFAULT: f64 = 1e6;

/// The film in `bytes`; `None` without a segment's information.
pub(crate) fn read(bytes: &[u8]) -> Option<Film> {
    let segment = elements(bytes).find(|element| element.id == SEGMENT)?.content;
    let mut film = Film::default();
    let mut has_info = false;
    for element in elements(segment).take_while(|element| element.id != CLUSTER) {
        match element.id {
            INFO => {
                has_info = true;
                info(element.content, &mut film);
            }
            TRACKS => {
                for track in elements(element.content).filter(|element| element.id == TRACK) {
                    describe_track(track.content, &mut film);
                }
            }
            _ => {}
        }
    }
    has_info.then_some(film)
}

struct Element<'a> {
    id: u32,
    content: &'a [u8],
}

/// Elements in a row; one longer than what holds it is cut to it.
fn elements(content: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let (id, id_len) = number(rest, 4, false)?;
        let tail = rest.get(id_len..)?;
        let (size, size_len) = number(tail, 8, true)?;
        let tail = tail.get(size_len..)?;
        // All bits set: of unknown length, to the end.
        let is_unknown = size == (1_u64 << (7 * size_len)) - 1;
        let len = if is_unknown { tail.len() } else { usize::try_from(size).ok()?.min(tail.len()) };
        let (content, behind) = tail.split_at_checked(len)?;
        rest = behind;
        Some(Element { id: u32::try_from(id).ok()?, content })
    })
    .take(ELEMENTS_MAX)
}

/// A number whose leading zero bits count its bytes; ids keep the mark that ends them, sizes do not.
fn number(bytes: &[u8], len_max: usize, drops_mark: bool) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = usize::try_from(first.leading_zeros()).ok()? + 1;
    if len > len_max {
        return None;
    }
    let value = bytes.get(..len)?.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let mark = 1_u64 << (7 * len);
    Some((if drops_mark { value & (mark - 1) } else { value }, len))
}

fn info(content: &[u8], film: &mut Film) {
    let mut scale = SCALE_DEFAULT;
    let mut duration = None;
    for element in elements(content) {
        match element.id {
            SCALE => scale = unsigned(element.content) as f64,
            DURATION => duration = float(element.content),
            DATE => {
                let nanoseconds = i64::from_be_bytes(element.content.try_into().unwrap_or_default());
                film.taken = Some(nanoseconds.div_euclid(1_000_000_000) + EPOCH);
            }
            TITLE => film.title = Some(String::from_utf8_lossy(element.content).into_owned()),
            _ => {}
        }
    }
    film.duration = duration.map(|units| units * scale / 1e9);
}

fn describe_track(content: &[u8], film: &mut Film) {
    let Some(video) = elements(content).find(|element| element.id == VIDEO) else { return };
    if film.width.is_some() {
        return;
    }
    let size = |id| elements(video.content).find(|element| element.id == id).map(|element| unsigned(element.content));
    film.width = size(WIDTH).and_then(|size| u32::try_from(size).ok());
    film.height = size(HEIGHT).and_then(|size| u32::try_from(size).ok());
    let codec = elements(content).find(|element| element.id == CODEC);
    film.codec = codec.map(|element| String::from_utf8_lossy(element.content).into_owned());
}

fn unsigned(content: &[u8]) -> u64 {
    content.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn float(content: &[u8]) -> Option<f64> {
    match content.len() {
        4 => content.try_into().ok().map(f32::from_be_bytes).map(f64::from),
        8 => content.try_into().ok().map(f64::from_be_bytes),
        _ => None,
    }
}
