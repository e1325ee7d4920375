//! Reads EPUB books (EPUB 3.3, W3C).
//!
//! Never follows a link out of the book. Chapters come in the order of the spine.

use std::collections::HashMap;

use super::office::Parts;
use super::ooxml::element;
use super::{author, listed_keywords};
use crate::findings::Findings;
use crate::tagger::TaggerError;
use crate::text::Prose;
use crate::text::html::entities;
use crate::text::html::tags::{Piece, Pieces};

/// Chapters that are read.
const CHAPTERS_MAX: usize = 2000;
/// Authors that are named.
const AUTHORS_MAX: usize = 20;

/// Reads a book's text, and its properties into `out`.
pub(crate) fn read(parts: &mut Parts<'_>, out: &mut Findings) -> Result<Prose, TaggerError> {
    let container = parts.read("META-INF/container.xml").unwrap_or_default();
    let package_name = root_file(&container).unwrap_or_else(|| "content.opf".to_owned());
    let package = parts.read(&package_name);
    let package =
        package.ok_or_else(|| TaggerError::malformed("EPUB", format!("it has no package {package_name:?}")))?;
    let mut prose = Prose { title: element(&package, "dc:title").unwrap_or_default(), ..Prose::default() };
    let folder = package_name.rsplit_once('/').map_or("", |(folder, _)| folder);
    let chapters = properties(&package, out);
    out.number("chapters", chapters.len() as f64);
    for href in chapters.iter().take(CHAPTERS_MAX) {
        let Some(chapter) = parts.read(&resolve(folder, href)) else { continue };
        let chapter = crate::text::html::strip(&chapter);
        for heading in &chapter.headings {
            prose.heading(heading);
        }
        if !prose.push(&chapter.body) {
            break;
        }
        prose.end_paragraph();
    }
    Ok(prose)
}

fn root_file(container: &str) -> Option<String> {
    let mut pieces = Pieces::new(container);
    while let Some(piece) = pieces.next() {
        if let Piece::Open(tag) = piece
            && tag.name == "rootfile"
        {
            return tag.attribute("full-path");
        }
    }
    None
}

/// Authors, subjects, dates; the chapters' addresses.
fn properties(package: &str, out: &mut Findings) -> Vec<String> {
    let mut manifest = HashMap::new();
    let mut spine = Vec::new();
    let mut authors = 0;
    let mut inside = String::new();
    let mut pieces = Pieces::new(package);
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Open(tag) => {
                match tag.name.as_str() {
                    "item" => {
                        if let (Some(id), Some(href)) = (tag.attribute("id"), tag.attribute("href")) {
                            manifest.insert(id, entities::decode(&href).into_owned());
                        }
                    }
                    "itemref" if spine.len() < CHAPTERS_MAX => spine.extend(tag.attribute("idref")),
                    _ => {}
                }
                inside = tag.name;
            }
            Piece::Text(text) => {
                let text = entities::decode(text);
                let text = text.trim();
                match inside.as_str() {
                    "dc:creator" if !text.is_empty() && authors < AUTHORS_MAX => {
                        authors += 1;
                        author(text, out);
                    }
                    "dc:subject" => listed_keywords(text, out),
                    "dc:publisher" => out.text_value("publisher", text),
                    "dc:date" => {
                        if let Some(seconds) = crate::dates::parse(text) {
                            out.time("created", seconds);
                        }
                    }
                    _ => {}
                }
            }
            Piece::Close(_) => inside.clear(),
        }
    }
    spine.iter().filter_map(|id| manifest.get(id).cloned()).collect()
}

/// A part's name from an address relative to the package's folder.
fn resolve(folder: &str, href: &str) -> String {
    let href = href.split('#').next().unwrap_or_default();
    let mut names: Vec<&str> = folder.split('/').filter(|name| !name.is_empty()).collect();
    for name in href.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    percent_decoded(&names.join("/"))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| first == b'%');
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
