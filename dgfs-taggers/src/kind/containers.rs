//! Formats that many kinds share as a container: ZIP, OLE, RIFF, ISO media, Matroska, Ogg.
//!
//! Never decompresses and never follows an offset beyond the bytes at hand: what is not told near the beginning stays
//! the container itself.

use super::{Class, Row};

/// Entries of a ZIP's beginning that are looked at: the telling ones come first.
const ZIP_ENTRIES_MAX: usize = 40;

const ZIP: Row = Row::new(Class::Archive, "application/zip", "zip");
const JAR: Row = Row::new(Class::Archive, "application/java-archive", "jar");
const OLE: Row = Row::new(Class::Data, "application/x-ole-storage", "");

/// What the container holds, or `None` if `head` does not begin one.
pub(super) fn look(head: &[u8], by_name: Option<Row>) -> Option<Row> {
    match head {
        [b'P', b'K', 3, 4, ..] => Some(zip(head, by_name)),
        [b'P', b'K', 5, 6, ..] => Some(ZIP),
        [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ..] => Some(ole(head, by_name)),
        [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] => riff(form),
        [b'F', b'O', b'R', b'M', _, _, _, _, b'A', b'I', b'F', b'F' | b'C', ..] => {
            Some(Row::new(Class::Audio, "audio/aiff", "aiff"))
        }
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => Some(iso_media(brand)),
        [_, _, _, _, b'm', b'o', b'o', b'v', ..] | [_, _, _, _, b'm', b'd', b'a', b't', ..] => {
            Some(Row::new(Class::Video, "video/quicktime", "mov"))
        }
        [0x1a, 0x45, 0xdf, 0xa3, rest @ ..] => Some(matroska(rest)),
        [b'O', b'g', b'g', b'S', ..] => Some(ogg(head)),
        _ => None,
    }
}

fn zip(head: &[u8], by_name: Option<Row>) -> Row {
    let mut at = 0;
    for _ in 0..ZIP_ENTRIES_MAX {
        let Some(entry) = head.get(at..).filter(|entry| entry.starts_with(b"PK\x03\x04")) else { break };
        let Some((name, data)) = zip_entry(entry) else { break };
        let content = data.len.and_then(|len| data.bytes.get(..len)).unwrap_or(data.bytes);
        if let Some(row) = zip_member(name, content) {
            return row;
        }
        let Some(next) = data.len else { break };
        at += data.offset + next;
    }
    // An entry of unknown length hides the next ones; then a name that can be a ZIP's is believed.
    by_name.filter(is_zip_based).unwrap_or(ZIP)
}

fn is_zip_based(row: &Row) -> bool {
    matches!(row.ext, "docx" | "xlsx" | "pptx" | "odt" | "ods" | "odp" | "epub" | "jar" | "apk" | "whl" | "kmz" | "npz")
}

struct ZipData<'a> {
    bytes: &'a [u8],
    /// From the entry's beginning.
    offset: usize,
    /// `None`: written after the data.
    len: Option<usize>,
}

fn zip_entry(entry: &[u8]) -> Option<(&[u8], ZipData<'_>)> {
    let flags = u16::from_le_bytes(entry.get(6..8)?.try_into().ok()?);
    let packed = u32::from_le_bytes(entry.get(18..22)?.try_into().ok()?);
    let name_len = usize::from(u16::from_le_bytes(entry.get(26..28)?.try_into().ok()?));
    let extra_len = usize::from(u16::from_le_bytes(entry.get(28..30)?.try_into().ok()?));
    let offset = 30 + name_len + extra_len;
    let len = usize::try_from(packed).ok().filter(|_| flags & 8 == 0);
    let name = entry.get(30..30 + name_len)?;
    Some((name, ZipData { bytes: entry.get(offset..).unwrap_or_default(), offset, len }))
}

fn zip_member(name: &[u8], data: &[u8]) -> Option<Row> {
    let document = |mime, ext| Some(Row::new(Class::Document, mime, ext));
    match name {
        b"mimetype" => zip_mimetype(data),
        b"AndroidManifest.xml" => Some(Row::new(Class::Archive, "application/vnd.android.package-archive", "apk")),
        _ if name.starts_with(b"word/") => {
            document("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx")
        }
        _ if name.starts_with(b"xl/") => {
            document("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx")
        }
        _ if name.starts_with(b"ppt/") => {
            document("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx")
        }
        b"META-INF/" | b"META-INF/MANIFEST.MF" => Some(JAR),
        _ => None,
    }
}

/// OpenDocument and EPUB store their media type first and uncompressed, for this purpose.
fn zip_mimetype(data: &[u8]) -> Option<Row> {
    const KNOWN: &[(&str, &str)] = &[
        ("application/epub+zip", "epub"),
        ("application/vnd.oasis.opendocument.text", "odt"),
        ("application/vnd.oasis.opendocument.spreadsheet", "ods"),
        ("application/vnd.oasis.opendocument.presentation", "odp"),
        ("application/vnd.oasis.opendocument.graphics", "odg"),
        ("image/openraster", "ora"),
        ("application/x-krita", "kra"),
    ];
    let longest_first = |(mime, _): &&(&str, &str)| {
        // "…text" is also the beginning of "…text-template": what follows must not go on with the word.
        data.starts_with(mime.as_bytes())
            && !data.get(mime.len()).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    let &(mime, ext) = KNOWN.iter().find(longest_first)?;
    let class = if matches!(ext, "ora" | "kra") { Class::Image } else { Class::Document };
    Some(Row::new(class, mime, ext))
}

/// The directory of an OLE file lies anywhere in it: the name tells which kind, or a stream's name near the beginning.
fn ole(head: &[u8], by_name: Option<Row>) -> Row {
    const STREAMS: &[(&[u8], Row)] = &[
        (b"W\0o\0r\0d\0D\0o\0c\0u\0m\0e\0n\0t\0", Row::new(Class::Document, "application/msword", "doc")),
        (b"W\0o\0r\0k\0b\0o\0o\0k\0", Row::new(Class::Document, "application/vnd.ms-excel", "xls")),
        (b"P\0o\0w\0e\0r\0P\0o\0i\0n\0t\0", Row::new(Class::Document, "application/vnd.ms-powerpoint", "ppt")),
        (b"_\0_\0n\0a\0m\0e\0i\0d\0", Row::new(Class::Document, "application/vnd.ms-outlook", "msg")),
    ];
    let named = by_name.filter(|row| matches!(row.ext, "doc" | "xls" | "ppt" | "msg"));
    let seen = || STREAMS.iter().find(|(name, _)| head.windows(name.len()).any(|bytes| bytes == *name));
    named.or_else(|| seen().map(|(_, row)| *row)).unwrap_or(OLE)
}

fn riff(form: &[u8]) -> Option<Row> {
    match form {
        [b'W', b'E', b'B', b'P', ..] => Some(Row::new(Class::Image, "image/webp", "webp")),
        [b'W', b'A', b'V', b'E', ..] => Some(Row::new(Class::Audio, "audio/vnd.wave", "wav")),
        [b'A', b'V', b'I', b' ', ..] => Some(Row::new(Class::Video, "video/vnd.avi", "avi")),
        _ => None,
    }
}

fn iso_media(brand: &[u8]) -> Row {
    match brand.get(..4).unwrap_or_default() {
        b"avif" | b"avis" => Row::new(Class::Image, "image/avif", "avif"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"mif1" | b"msf1" => Row::new(Class::Image, "image/heic", "heic"),
        b"crx " => Row::new(Class::Image, "image/x-canon-cr3", "cr3"),
        b"M4A " | b"M4B " | b"M4P " => Row::new(Class::Audio, "audio/mp4", "m4a"),
        b"qt  " => Row::new(Class::Video, "video/quicktime", "mov"),
        b"3gp4" | b"3gp5" | b"3gp6" | b"3gp7" | b"3ge6" => Row::new(Class::Video, "video/3gpp", "3gp"),
        _ => Row::new(Class::Video, "video/mp4", "mp4"),
    }
}

fn matroska(rest: &[u8]) -> Row {
    // The document type stands in the first header, which is some forty bytes long.
    let header = rest.get(..64).unwrap_or(rest);
    if header.windows(4).any(|bytes| bytes == b"webm") {
        Row::new(Class::Video, "video/webm", "webm")
    } else {
        Row::new(Class::Video, "video/matroska", "mkv")
    }
}

fn ogg(head: &[u8]) -> Row {
    // The first packet follows the first page's header of 28 bytes and names the codec.
    match head.get(28..).unwrap_or_default() {
        [b'O', b'p', b'u', b's', ..] => Row::new(Class::Audio, "audio/opus", "opus"),
        [0x80, b't', b'h', b'e', b'o', b'r', b'a', ..] => Row::new(Class::Video, "video/ogg", "ogv"),
        _ => Row::new(Class::Audio, "audio/ogg", "ogg"),
    }
}
