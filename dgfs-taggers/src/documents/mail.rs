//! Reads mails (RFC 5322, MIME): subject, people, date, text, names of attachments.
//!
//! Never opens an attachment and never nests deeper than its bound. A mailbox file gives its first mail and their number.

mod encodings;

use super::author;
use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};
use crate::text::{Prose, decode, describe, html};
use encodings::{decoded_words, transfer_decoded};

/// Multiparts within multiparts: mails that were forwarded again and again have five.
const DEPTH_MAX: usize = 16;
/// Parts of a mail that are looked at.
const PARTS_MAX: usize = 200;
/// Fields of a header that are looked at.
const FIELDS_MAX: usize = 1000;
/// Bytes of a field at most.
const FIELD_BYTES_MAX: usize = 16 << 10;
/// Recipients that are named.
const PEOPLE_MAX: usize = 50;

/// See the module.
pub(crate) struct MailTagger;

impl Tagger for MailTagger {
    fn name(&self) -> &'static str {
        "mail"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        matches!(kind.mime.as_str(), "message/rfc822" | "application/mbox" | "multipart/related")
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let mut bytes = job.bytes;
        if kind.mime == "application/mbox" {
            let mails = bytes.windows(6).filter(|window| *window == b"\nFrom ").count() + 1;
            out.number("mails", mails as f64);
            let start = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let rest = bytes.get(start..).unwrap_or_default();
            let end = rest.windows(6).position(|window| window == b"\nFrom ").unwrap_or(rest.len());
            bytes = rest.get(..end).unwrap_or_default();
        }
        let part = Part::of(bytes);
        if part.fields.is_empty() {
            return Err(TaggerError::malformed("mail", "it does not begin with header fields"));
        }
        let mut prose = Prose::default();
        describe_header(&part, &mut prose, out);
        let mut reader = Reader { prose, parts_left: PARTS_MAX, out };
        reader.read(&part, DEPTH_MAX);
        describe(&reader.prose, reader.out);
        Ok(())
    }
}

/// A header and what follows it.
struct Part<'a> {
    /// Names in lower case, values unfolded.
    fields: Vec<(String, String)>,
    body: &'a [u8],
}

impl<'a> Part<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut rest = bytes;
        for _ in 0..FIELDS_MAX {
            let len = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let Some((line, behind)) = rest.split_at_checked(len) else { break };
            let text = String::from_utf8_lossy(line.get(..FIELD_BYTES_MAX).unwrap_or(line));
            let text = text.trim_end_matches(['\r', '\n']);
            if text.is_empty() {
                rest = behind;
                break;
            }
            if text.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut().filter(|(_, value)| value.len() < FIELD_BYTES_MAX) {
                    value.push(' ');
                    value.push_str(text.trim());
                }
            } else if let Some((name, value)) = text.split_once(':') {
                fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            } else {
                break;
            }
            rest = behind;
        }
        Self { fields, body: rest }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `text/plain; charset=utf-8; …`: the type in lower case.
    fn kind(&self) -> String {
        let kind = self.field("content-type").unwrap_or("text/plain");
        kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// The value of `name=` in a structured field.
fn parameter(field: &str, name: &str) -> Option<String> {
    field.split(';').skip(1).find_map(|part| {
        let (key, value) = part.split_once('=')?;
        // RFC 2231's `name*=utf-8''…` is read as far as it is plain.
        let key = key.trim().trim_end_matches('*');
        key.eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn describe_header(part: &Part<'_>, prose: &mut Prose, out: &mut Findings) {
    prose.title = decoded_words(part.field("subject").unwrap_or_default());
    if let Some(from) = part.field("from") {
        author(&decoded_words(from), out);
    }
    for name in ["to", "cc"] {
        for person in part.field(name).unwrap_or_default().split(',').take(PEOPLE_MAX) {
            let person = decoded_words(person.trim());
            out.append_text(&person);
            if !person.is_empty() && name == "to" {
                out.text_value("recipient", &person);
            }
        }
    }
    if let Some(seconds) = part.field("date").and_then(crate::dates::parse_mail) {
        out.time("sent", seconds);
    }
    if let Some(id) = part.field("message-id") {
        out.text_value("message-id", id.trim_matches(['<', '>']));
    }
    for name in ["in-reply-to", "references"] {
        for id in part.field(name).unwrap_or_default().split_whitespace().take(PEOPLE_MAX) {
            out.link(LinkKind::Reference, id.trim_matches(['<', '>']));
        }
    }
}

struct Reader<'a> {
    prose: Prose,
    parts_left: usize,
    out: &'a mut Findings,
}

impl Reader<'_> {
    fn read(&mut self, part: &Part<'_>, depth_left: usize) {
        if self.parts_left == 0 || depth_left == 0 {
            self.out.note(&format!("more than {PARTS_MAX} parts, or nested deeper than {DEPTH_MAX}"));
            return;
        }
        self.parts_left -= 1;
        let disposition = part.field("content-disposition").unwrap_or_default();
        let named = parameter(disposition, "filename").or_else(|| parameter(part.field("content-type")?, "name"));
        let kind = part.kind();
        if let Some(name) = named {
            let name = decoded_words(&name);
            self.out.link(LinkKind::Member, &name);
            self.prose.push(&name);
            self.prose.end_line();
        } else if kind.starts_with("multipart/") {
            self.multipart(part, depth_left, &kind);
        } else if kind == "message/rfc822" {
            self.read(&Part::of(part.body), depth_left - 1);
        } else if kind.starts_with("text/") {
            self.text(part, &kind);
        }
    }

    fn multipart(&mut self, part: &Part<'_>, depth_left: usize, kind: &str) {
        let boundary = part.field("content-type").and_then(|field| parameter(field, "boundary"));
        let Some(boundary) = boundary.filter(|boundary| !boundary.is_empty()) else { return };
        let inner: Vec<_> = parts_of(part.body, &boundary).map(Part::of).collect();
        if kind == "multipart/alternative"
            && let Some(plain) = inner.iter().find(|part| part.kind() == "text/plain")
        {
            // The others say the same in other formats; links stand in the page alone.
            self.read(plain, depth_left - 1);
            if let Some(page) = inner.iter().find(|part| part.kind() == "text/html") {
                let (text, _) = self.decode(page);
                let mut links = Findings::default();
                html::read(&text, &mut links);
                for link in links.links {
                    self.out.link(link.kind, &link.target);
                }
            }
            return;
        }
        for part in &inner {
            self.read(part, depth_left - 1);
        }
    }

    fn text(&mut self, part: &Part<'_>, kind: &str) {
        let (text, _) = self.decode(part);
        if kind == "text/html" {
            let mut page = Findings::default();
            html::read(&text, &mut page);
            for link in page.links {
                self.out.link(link.kind, &link.target);
            }
            self.prose.push(&html::strip(&text).body);
        } else {
            crate::text::markdown::bare_urls(&text, self.out);
            // What was answered to is another mail's text.
            for line in text.lines().filter(|line| !line.starts_with('>')) {
                self.prose.push(line);
                self.prose.push("\n");
            }
        }
        self.prose.end_paragraph();
    }

    fn decode(&self, part: &Part<'_>) -> (String, &'static str) {
        let bytes = transfer_decoded(part.body, part.field("content-transfer-encoding").unwrap_or_default());
        let charset = part.field("content-type").and_then(|field| parameter(field, "charset"));
        let decoded = decode::decode(&bytes, charset.as_deref(), bytes.len());
        (decoded.text, decoded.charset)
    }
}

/// The pieces between lines `--BOUNDARY`.
fn parts_of<'a>(body: &'a [u8], boundary: &str) -> impl Iterator<Item = &'a [u8]> {
    let mark = format!("--{boundary}").into_bytes();
    let start = next_mark(body, &mark);
    let mut rest = body.get(start..).unwrap_or_default();
    std::iter::from_fn(move || {
        // `rest` begins with a boundary line or is empty.
        let line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (boundary, behind) = rest.split_at_checked(line)?;
        let is_last = boundary.get(mark.len()..).is_none_or(|tail| tail.starts_with(b"--"));
        if is_last {
            return None;
        }
        let (piece, behind) = behind.split_at_checked(next_mark(behind, &mark))?;
        rest = behind;
        Some(piece)
    })
    .take(PARTS_MAX)
}

/// Where the next boundary line begins; the length of `body` if there is none.
fn next_mark(body: &[u8], mark: &[u8]) -> usize {
    let mut at = 0;
    loop {
        let Some(line) = body.get(at..) else { return body.len() };
        // A longer boundary that begins alike is another one.
        let behind = line.strip_prefix(mark);
        if behind.is_some_and(|tail| tail.starts_with(b"--") || !tail.first().is_some_and(u8::is_ascii_graphic)) {
            return at;
        }
        match line.iter().position(|byte| *byte == b'\n') {
            Some(len) => at += len + 1,
            None => return body.len(),
        }
    }
}

#[cfg(test)]
mod tests;
