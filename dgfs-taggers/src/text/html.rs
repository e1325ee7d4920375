//! Reads web pages: text, title, headings, links, author.
//!
//! Never builds a tree, so nesting costs nothing, and never runs or fetches anything. What no browser would show
//! (scripts, styles, comments) is not text. A broken page gives what its readable parts say.

pub(crate) mod entities;
pub(crate) mod tags;

use super::{Prose, describe};
use crate::findings::{Findings, LinkKind};
use tags::{Piece, Pieces, Tag};

/// Elements whose content no one reads.
const HIDDEN: &[&str] = &["script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select"];
/// Elements that end a line of their own.
const LINES: &[&str] = &["br", "tr", "dt", "dd", "option"];
/// Elements that end a paragraph.
const BLOCKS: &[&str] = &[
    "p",
    "div",
    "section",
    "article",
    "header",
    "footer",
    "nav",
    "aside",
    "main",
    "ul",
    "ol",
    "li",
    "table",
    "pre",
    "form",
    "blockquote",
    "figure",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "title",
    "hr",
    "dl",
    "body",
];
/// Elements that the cells of a row or the words of a line are in: a gap stands for their edge.
const GAPS: &[&str] = &["td", "th"];

/// Says what a page says.
pub(crate) fn read(html: &str, out: &mut Findings) {
    let prose = Reader::new(out).read(html);
    describe(&prose, out);
}

/// The text without tags, for pages and for any XML.
pub(crate) fn strip(markup: &str) -> Prose {
    let mut unused = Findings::default();
    Reader::new(&mut unused).read(markup)
}

/// The first title of a page or a drawing; empty if it has none.
pub(crate) fn title_of(markup: &str) -> String {
    strip(markup).title
}

/// Where the text at hand goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Body,
    Title,
    Heading,
}

struct Reader<'a> {
    out: &'a mut Findings,
    prose: Prose,
    place: Place,
    heading: String,
}

impl<'a> Reader<'a> {
    fn new(out: &'a mut Findings) -> Self {
        Self { out, prose: Prose::default(), place: Place::Body, heading: String::new() }
    }

    fn read(mut self, html: &str) -> Prose {
        let mut pieces = Pieces::new(html);
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Text(text) => self.text(text),
                Piece::Open(tag) if HIDDEN.contains(&tag.name.as_str()) => {
                    if !tag.closes_itself {
                        pieces.skip_past(&tag.name);
                    }
                }
                Piece::Open(tag) => self.open(&tag),
                Piece::Close(name) => self.close(&name),
            }
        }
        self.end_heading();
        self.prose
    }

    fn text(&mut self, text: &str) {
        let text = entities::decode(text);
        let into = match self.place {
            Place::Title => &mut self.prose.title,
            Place::Heading => &mut self.heading,
            Place::Body => {
                push_words(&mut self.prose, &text);
                return;
            }
        };
        if into.len() < crate::findings::STRING_BYTES_MAX {
            into.push_str(crate::text::cut(&text, crate::findings::STRING_BYTES_MAX));
        }
    }

    fn open(&mut self, tag: &Tag<'_>) {
        let name = tag.name.as_str();
        self.break_at(name);
        match name {
            "title" if self.prose.title.is_empty() => self.place = Place::Title,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.end_heading();
                self.place = Place::Heading;
            }
            "a" => self.link(tag),
            "meta" => self.meta(tag),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "title" => {
                self.place = Place::Body;
                self.prose.title = crate::findings::one_line(&self.prose.title);
            }
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.end_heading(),
            _ => {}
        }
        self.break_at(name);
    }

    fn break_at(&mut self, name: &str) {
        if BLOCKS.contains(&name) {
            self.prose.end_paragraph();
        } else if LINES.contains(&name) {
            self.prose.end_line();
        } else if GAPS.contains(&name) {
            push_words(&mut self.prose, " ");
        }
    }

    fn end_heading(&mut self) {
        let heading = std::mem::take(&mut self.heading);
        if self.place != Place::Body {
            self.place = Place::Body;
        }
        if !heading.trim().is_empty() {
            self.prose.heading(&heading);
            push_words(&mut self.prose, &heading);
            self.prose.end_paragraph();
        }
    }

    fn link(&mut self, tag: &Tag<'_>) {
        let Some(href) = tag.attribute("href") else { return };
        let target = entities::decode(&href);
        let target = target.trim();
        // A place in the same page and a script are no other file.
        let is_inside =
            target.starts_with('#') || target.get(..11).is_some_and(|t| t.eq_ignore_ascii_case("javascript:"));
        if !is_inside && !target.starts_with("data:") {
            self.out.link(LinkKind::Hyperlink, target);
        }
    }

    fn meta(&mut self, tag: &Tag<'_>) {
        let Some(name) = tag.attribute("name").or_else(|| tag.attribute("property")) else { return };
        let Some(content) = tag.attribute("content") else { return };
        let content = entities::decode(&content);
        match name.to_ascii_lowercase().as_str() {
            "author" | "dc.creator" | "article:author" => {
                self.out.text_value("author", &content);
                self.out.link(LinkKind::Author, &content);
            }
            "description" | "og:description" => self.out.text_value("description", &content),
            "generator" => self.out.text_value("generator", &content),
            "keywords" => {
                const KEYWORDS_MAX: usize = 16; // Some pages list hundreds to be found by all of them.
                for keyword in content.split([',', ';', '\u{ff0c}']).take(KEYWORDS_MAX) {
                    self.out.mark(&keyword.trim().to_lowercase(), 0.6);
                }
            }
            _ => {}
        }
    }
}

/// Adds text with single gaps, as a browser shows it.
fn push_words(prose: &mut Prose, text: &str) {
    let mut is_first = true;
    let begins_with_gap = text.starts_with(char::is_whitespace);
    for word in text.split_whitespace() {
        let wants_gap = !is_first || begins_with_gap;
        if wants_gap && !prose.body.is_empty() && !prose.body.ends_with([' ', '\n']) {
            prose.push(" ");
        }
        is_first = false;
        if !prose.push(word) {
            return;
        }
    }
    if text.ends_with(char::is_whitespace) && !prose.body.is_empty() && !prose.body.ends_with([' ', '\n']) {
        prose.push(" ");
    }
}

#[cfg(test)]
mod tests {
    use super::{read, strip};
    use crate::findings::{Findings, Link, LinkKind};

    #[test]
    fn a_page_gives_its_text_title_links_and_author() {
        let page = "<!DOCTYPE html><html><head><title>On &amp; off</title><meta name=author content='Ada L.'>\
            <style>p { color: red }</style><script>if (a < b) alert('<p>no</p>')</script></head><body>\
            <!-- hidden --><h1>First <b>steps</b></h1><p>One&nbsp;two,<i>three</i>.</p><p>Four <a href=\"/x?a=1&amp;b=2\">\
            link</a> <a href='#here'>here</a><a href=JavaScript:x()>no</a></p></body></html>";
        let mut out = Findings::default();
        read(page, &mut out);
        assert_eq!(out.text_of("title"), Some("On & off"));
        assert_eq!(out.text_of("author"), Some("Ada L."));
        assert_eq!(out.text, "First steps\n\nOne two,three.\n\nFour link hereno");
        let hyperlink = Link { kind: LinkKind::Hyperlink, target: "/x?a=1&b=2".to_owned() };
        assert!(out.links.contains(&hyperlink), "{:?}", out.links);
        assert_eq!(out.links.iter().filter(|link| link.kind == LinkKind::Hyperlink).count(), 1);
    }

    #[test]
    fn nesting_and_open_ends_cost_nothing() {
        let deep = "<div>".repeat(200_000);
        assert_eq!(strip(&deep).body, "");
        for open in ["<", "<a", "<a href='", "<!--", "<script>x", "&#", "&#xffffffff;", "</", "<![CDATA[", "<title>"] {
            let page = format!("<p>text {open}");
            assert!(strip(&page).body.starts_with("text"), "{open}");
        }
    }
}
