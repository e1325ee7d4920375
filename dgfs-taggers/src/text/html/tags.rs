//! Cuts markup into text and tags.
//!
//! Never looks back and never nests: each step goes on behind the last one, so the work is the length of the page.

/// Bytes of a tag with its attributes at most; a longer one is skipped to its end.
const TAG_BYTES_MAX: usize = 64 << 10;
/// Attributes of a tag that are looked at.
const ATTRIBUTES_MAX: usize = 64;
/// Bytes of a tag's name at most: the longest that HTML has is ten bytes, XML's are longer.
const NAME_BYTES_MAX: usize = 64;

/// A piece of a page.
pub(crate) enum Piece<'a> {
    /// Characters between tags, entities not yet decoded.
    Text(&'a str),
    /// An opening tag.
    Open(Tag<'a>),
    /// The name of a closing tag, in lower case.
    Close(String),
}

/// An opening tag.
pub(crate) struct Tag<'a> {
    /// In lower case.
    pub(crate) name: String,
    pub(crate) closes_itself: bool,
    attributes: &'a str,
}

impl Tag<'_> {
    /// The value of an attribute, entities not yet decoded.
    pub(crate) fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes;
        for _ in 0..ATTRIBUTES_MAX {
            let (name, value, behind) = next_attribute(rest)?;
            if name.eq_ignore_ascii_case(wanted) {
                return Some(value.to_owned());
            }
            rest = behind;
        }
        None
    }
}

fn next_attribute(text: &str) -> Option<(&str, &str, &str)> {
    let text = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '/');
    let name_len = text.find(|letter: char| letter.is_whitespace() || letter == '=' || letter == '/')?;
    let (name, rest) = text.split_at_checked(name_len)?;
    let rest = rest.trim_start();
    let Some(rest) = rest.strip_prefix('=') else { return Some((name, "", rest)) };
    let rest = rest.trim_start();
    for quote in ['"', '\''] {
        if let Some(inner) = rest.strip_prefix(quote) {
            let (value, behind) = inner.split_once(quote).unwrap_or((inner, ""));
            return Some((name, value, behind));
        }
    }
    let value_len = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (value, behind) = rest.split_at_checked(value_len)?;
    Some((name, value, behind))
}

/// The pieces of a page in order.
pub(crate) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(page: &'a str) -> Self {
        Self { rest: page }
    }

    /// The next piece; comments, declarations and instructions are left out.
    pub(crate) fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let Some(tail) = self.rest.strip_prefix('<') else {
                let len = self.rest.find('<').unwrap_or(self.rest.len());
                return self.take(len).map(Piece::Text);
            };
            if let Some(inner) = tail.strip_prefix("![CDATA[") {
                let (text, behind) = inner.split_once("]]>").unwrap_or((inner, ""));
                self.rest = behind;
                return Some(Piece::Text(text));
            }
            if tail.starts_with("!--") {
                self.rest = tail.split_once("-->").map_or("", |(_, behind)| behind);
                continue;
            }
            if tail.starts_with(['!', '?']) {
                self.rest = tail.split_once('>').map_or("", |(_, behind)| behind);
                continue;
            }
            let is_tag = tail.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '/');
            if !is_tag {
                // A lone `<` is a character.
                return self.take(1).map(Piece::Text);
            }
            return self.tag(tail);
        }
    }

    /// Skips the content of an element up to its closing tag.
    pub(crate) fn skip_past(&mut self, name: &str) {
        let mut rest = self.rest;
        while let Some((_, behind)) = rest.split_once("</") {
            if behind.get(..name.len()).is_some_and(|found| found.eq_ignore_ascii_case(name)) {
                self.rest = behind.split_once('>').map_or("", |(_, behind)| behind);
                return;
            }
            rest = behind;
        }
        self.rest = "";
    }

    fn take(&mut self, len: usize) -> Option<&'a str> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn tag(&mut self, tail: &'a str) -> Option<Piece<'a>> {
        let len = tag_len(tail);
        let (inside, behind) = tail.split_at_checked(len)?;
        self.rest = behind.strip_prefix('>').unwrap_or(behind);
        let inside = crate::text::cut(inside, TAG_BYTES_MAX);
        let is_close = inside.starts_with('/');
        let inside = inside.trim_start_matches('/');
        let name_len = inside.find(|letter: char| letter.is_whitespace() || letter == '/').unwrap_or(inside.len());
        let (name, attributes) = inside.split_at_checked(name_len)?;
        let name = crate::text::cut(name, NAME_BYTES_MAX).to_ascii_lowercase();
        if is_close {
            return Some(Piece::Close(name));
        }
        Some(Piece::Open(Tag { name, closes_itself: attributes.ends_with('/'), attributes }))
    }
}

/// Bytes up to the `>` that ends the tag: those in quotes do not.
fn tag_len(tail: &str) -> usize {
    let mut quote = None;
    let mut last = 0;
    for (at, byte) in tail.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at,
            // A quote opens a value only behind `=`: elsewhere it is a mistake that must not swallow the page.
            (None, b'"' | b'\'') if last == b'=' => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            (Some(_), _) if at > TAG_BYTES_MAX => quote = None,
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            last = byte;
        }
    }
    tail.len()
}
