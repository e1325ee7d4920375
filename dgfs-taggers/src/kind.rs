//! What kind of file this is: by its content first, then by its name.
//!
//! Never reads beyond [`LOOK_BYTES_MAX`] and never decompresses, so it is safe and cheap enough to run in any process on
//! each file. A binary content never becomes text by its name, and a text never becomes a picture.

mod containers;
mod magic;
mod names;
mod words;

use serde::{Deserialize, Serialize};

use crate::job::Job;

/// Bytes of content that are looked at.
pub const LOOK_BYTES_MAX: usize = 8 << 10;

/// The broad class of a file.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A picture.
    Image,
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Text for people: plain text, Markdown, a log.
    Text,
    /// Text for machines that people write: source code.
    Code,
    /// A formatted document: PDF, office files, e-books, web pages, mails.
    Document,
    /// Several files in one, or one made smaller.
    Archive,
    /// A typeface.
    Font,
    /// A program for a machine.
    Executable,
    /// Anything else, such as JSON, a database or unknown bytes.
    Data,
}

impl Class {
    /// Its name as in `class=image`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Text => "text",
            Self::Code => "code",
            Self::Document => "document",
            Self::Archive => "archive",
            Self::Font => "font",
            Self::Executable => "executable",
            Self::Data => "data",
        }
    }
}

/// What a file is.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The broad class.
    pub class: Class,
    /// A media type without parameters, such as `image/png`.
    pub mime: String,
    /// The usual extension of this kind without its dot, empty where there is none. Not always the file's own.
    pub ext: String,
    /// The programming or markup language, such as `rust`, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
}

impl Kind {
    /// Whether the content is characters rather than bytes.
    pub fn is_textual(&self) -> bool {
        matches!(self.class, Class::Text | Class::Code)
            || self.mime.starts_with("text/")
            || words::is_textual_mime(&self.mime)
    }
}

/// A row of the tables: class, media type, extension, language (empty: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    class: Class,
    mime: &'static str,
    ext: &'static str,
    lang: &'static str,
}

impl Row {
    const fn new(class: Class, mime: &'static str, ext: &'static str) -> Self {
        Self { class, mime, ext, lang: "" }
    }

    fn kind(self) -> Kind {
        let lang = (!self.lang.is_empty()).then(|| self.lang.to_owned());
        Kind { class: self.class, mime: self.mime.to_owned(), ext: self.ext.to_owned(), lang }
    }
}

const EMPTY: Row = Row::new(Class::Data, "inode/x-empty", "");
const UNKNOWN: Row = Row::new(Class::Data, "application/octet-stream", "");
const PLAIN: Row = Row::new(Class::Text, "text/plain", "txt");

/// What the file is. `mime_hint` decides where it is a media type; otherwise content does, then the name.
pub fn kind_of(job: &Job<'_>) -> Kind {
    let head = job.bytes.get(..LOOK_BYTES_MAX).unwrap_or(job.bytes);
    let by_name = names::by_name(job.name);
    let seen = look(head, by_name);
    match job.mime_hint.and_then(checked_mime) {
        Some(mime) if mime != seen.mime => hinted(&mime, seen, by_name),
        Some(_) | None => seen.kind(),
    }
}

/// What a name alone says of a kind, the same for all names that say the same; `None`: nothing. Of a name, nothing else takes
/// part in what taggers find.
pub fn said_by_name(name: &str) -> Option<String> {
    names::by_name(name).map(|row| format!("{};{};{}", row.mime, row.ext, row.lang))
}

fn look(head: &[u8], by_name: Option<Row>) -> Row {
    if head.is_empty() {
        // An empty `x.rs` is a Rust file to its owner, but an empty `x.png` is no picture.
        return by_name.filter(|row| matches!(row.class, Class::Text | Class::Code)).unwrap_or(EMPTY);
    }
    if let Some(row) = containers::look(head, by_name).or_else(|| magic::look(head)) {
        return row;
    }
    if words::is_text(head) {
        return words::look(head, by_name);
    }
    // Formats without a mark of their own are known by name alone, those made of characters excepted.
    by_name.filter(|row| !row.kind().is_textual() && !magic::has_mark(row.mime)).unwrap_or(UNKNOWN)
}

/// A media type in lower case without parameters, or `None` if `hint` is not one.
fn checked_mime(hint: &str) -> Option<String> {
    const MIME_BYTES_MAX: usize = 127; // As RFC 6838 limits each half.
    let mime = hint.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (class, sub) = mime.split_once('/')?;
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    (mime.len() <= MIME_BYTES_MAX && is_word(class) && is_word(sub)).then_some(mime)
}

fn hinted(mime: &str, seen: Row, by_name: Option<Row>) -> Kind {
    let known = names::by_mime(mime).or_else(|| magic::by_mime(mime)).or(by_name.filter(|row| row.mime == mime));
    if let Some(row) = known {
        return row.kind();
    }
    let class = match mime.split('/').next().unwrap_or_default() {
        "image" => Class::Image,
        "video" => Class::Video,
        "audio" => Class::Audio,
        "text" => Class::Text,
        "font" => Class::Font,
        _ => seen.class,
    };
    Kind { class, mime: mime.to_owned(), ..seen.kind() }
}

#[cfg(test)]
mod tests;
