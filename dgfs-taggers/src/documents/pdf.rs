//! Reads PDF (ISO 32000): text, title, author, dates, pages, links.
//!
//! Never trusts the file's own tables: objects are found by looking for them, so broken files are read as far as they
//! go. Never runs an action and never decrypts. Objects, nesting, unpacked bytes and pages are bounded.

mod content;
mod file;
mod filters;
mod fonts;
mod objects;

use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};
use crate::text::{PROSE_BYTES_MAX, Prose, describe};
use file::File;
use objects::{Dict, Object};

/// Pages whose text is read.
const PAGES_READ_MAX: usize = 2000;

/// See the module.
pub(crate) struct PdfTagger;

impl Tagger for PdfTagger {
    fn name(&self) -> &'static str {
        "pdf"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        kind.mime == "application/pdf"
    }

    fn examine(&self, job: &Job<'_>, _kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let mut file = File::open(job.bytes);
        if file.is_empty() {
            return Err(TaggerError::malformed("PDF", "no object in it, expected such as `1 0 obj`"));
        }
        if file.is_encrypted() {
            out.mark("encrypted", 1.0);
            out.note("the document is encrypted");
            out.number("pages", file.pages().len() as f64);
            return Ok(());
        }
        let mut prose = Prose::default();
        properties(&mut file, &mut prose, out);
        let pages = file.pages();
        out.number("pages", pages.len() as f64);
        let mut reader = content::Reader::new(&mut file);
        for page in pages.iter().take(PAGES_READ_MAX) {
            links(reader.file(), &page.dict, out);
            if prose.body.len() < PROSE_BYTES_MAX {
                reader.read_page(page, &mut prose);
                prose.end_paragraph();
            }
        }
        if prose.body.trim().is_empty() && !pages.is_empty() {
            out.note("it has no readable text: perhaps its pages are pictures");
        }
        if file.is_spent() {
            out.note("unpacked beyond the bound: the rest was not read");
        }
        if !job.is_whole() {
            out.note(&format!("only the first {} MiB were read", job.bytes.len() >> 20));
        }
        describe(&prose, out);
        Ok(())
    }
}

fn properties(file: &mut File<'_>, prose: &mut Prose, out: &mut Findings) {
    let Some(info) = file.info() else { return };
    let text = |key: &str| info.get(key).and_then(Object::text);
    prose.title = text("Title").unwrap_or_default();
    if let Some(name) = text("Author") {
        super::author(&name, out);
    }
    if let Some(list) = text("Keywords") {
        super::listed_keywords(&list, out);
    }
    for (key, ours) in [("Subject", "description"), ("Creator", "generator")] {
        if let Some(text) = text(key) {
            out.text_value(ours, &text);
        }
    }
    for (key, ours) in [("CreationDate", "created"), ("ModDate", "modified")] {
        if let Some(seconds) = text(key).and_then(|text| crate::dates::parse(&text)) {
            out.time(ours, seconds);
        }
    }
}

/// The addresses that a page's annotations open.
fn links(file: &mut File<'_>, page: &Dict, out: &mut Findings) {
    const ANNOTATIONS_MAX: usize = 1000;
    let Some(Object::List(list)) = page.get("Annots").map(|list| file.resolve(list)) else { return };
    for annotation in list.iter().take(ANNOTATIONS_MAX) {
        let Object::Dict(annotation) = file.resolve(annotation) else { continue };
        let Some(Object::Dict(action)) = annotation.get("A").map(|action| file.resolve(action)) else { continue };
        let address = action.get("URI").map(|address| file.resolve(address));
        if let Some(address) = address.as_ref().and_then(Object::text) {
            out.link(LinkKind::Hyperlink, &address);
        }
    }
}

#[cfg(test)]
mod tests;
