//! Documents of each kind made here, and hostile ones.

use super::OfficeTagger;
use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::kind_of;
use crate::tagger::{Tagger, TaggerError};
use crate::testing::zip_of;

fn examine(name: &str, bytes: &[u8]) -> (Findings, Result<(), TaggerError>) {
    let job = Job { name, size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
    let kind = kind_of(&job);
    assert!(OfficeTagger.wants(&kind), "{kind:?}");
    let mut out = Findings::default();
    let outcome = OfficeTagger.examine(&job, &kind, &mut out);
    (out, outcome)
}

const CORE: &[u8] = b"<cp:coreProperties><dc:title>The Plan</dc:title><dc:creator>Ada</dc:creator>\
    <cp:keywords>graph, Storage</cp:keywords><dcterms:created>2024-03-05T10:20:30Z</dcterms:created></cp:coreProperties>";

#[test]
fn a_word_document_gives_text_headings_properties_and_links() {
    let document =
        b"<?xml version='1.0'?><w:document><w:body><w:p><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:r><w:t>\
        Metadata servers</w:t></w:r></w:p><w:p><w:r><w:t>Every metadata server keeps </w:t></w:r><w:r><w:t>names &amp; \
        places.</w:t></w:r></w:p></w:body></w:document>";
    let rels = b"<Relationships><Relationship Type='http://x/relationships/hyperlink' Target='https://example.org/'/>\
        <Relationship Type='http://x/relationships/styles' Target='styles.xml'/></Relationships>";
    let bytes = zip_of(&[
        ("[Content_Types].xml", b"<Types/>"),
        ("word/document.xml", document),
        ("word/_rels/document.xml.rels", rels),
        ("docProps/core.xml", CORE),
        ("docProps/app.xml", b"<Properties><Pages>3</Pages></Properties>"),
    ]);
    let (out, outcome) = examine("a.docx", &bytes);
    assert_eq!(outcome, Ok(()));
    assert_eq!(
        (out.text_of("title"), out.text_of("author"), out.number_of("pages")),
        (Some("The Plan"), Some("Ada"), Some(3.0))
    );
    assert_eq!(out.time_of("created"), Some(1_709_634_030));
    assert_eq!(out.text, "Metadata servers\n\nEvery metadata server keeps names & places.");
    let links: Vec<_> =
        out.links.iter().filter(|link| link.kind == LinkKind::Hyperlink).map(|link| &*link.target).collect();
    assert_eq!(links, ["https://example.org/"]);
    assert!(out.marks.iter().any(|mark| mark.tag == "storage"));
}

#[test]
fn slides_and_sheets_come_in_order() {
    let slide = |text: &str| format!("<p:sld><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:sld>").into_bytes();
    let (one, two, ten) = (slide("first"), slide("second"), slide("tenth"));
    let bytes =
        zip_of(&[("ppt/slides/slide10.xml", &ten), ("ppt/slides/slide2.xml", &two), ("ppt/slides/slide1.xml", &one)]);
    let (out, _) = examine("a.pptx", &bytes);
    assert_eq!((out.text.as_str(), out.number_of("pages")), ("first\n\nsecond\n\ntenth", Some(3.0)));
    let bytes = zip_of(&[
        ("xl/workbook.xml", b"<workbook><sheets><sheet name='Costs'/></sheets></workbook>"),
        ("xl/sharedStrings.xml", b"<sst><si><t>disk</t></si><si><t>price</t></si></sst>"),
    ]);
    let (out, _) = examine("a.xlsx", &bytes);
    assert_eq!(out.text, "Costs\ndisk\nprice");
}

#[test]
fn open_document_and_books_are_read() {
    let content =
        b"<office:document-content><office:automatic-styles>no</office:automatic-styles><text:h>Head</text:h><text:p>\
        Some<text:s/>words <text:a xlink:href='https://example.org/'>here</text:a></text:p></office:document-content>";
    let meta = b"<office:meta><dc:title>Notes</dc:title><meta:initial-creator>Bo</meta:initial-creator>\
        <meta:document-statistic meta:page-count='2'/></office:meta>";
    let mime = b"application/vnd.oasis.opendocument.text";
    let (out, outcome) = examine("a", &zip_of(&[("mimetype", mime), ("content.xml", content), ("meta.xml", meta)]));
    assert_eq!((outcome, out.text.as_str()), (Ok(()), "Head\n\nSome words here"));
    assert_eq!(
        (out.text_of("title"), out.text_of("author"), out.number_of("pages")),
        (Some("Notes"), Some("Bo"), Some(2.0))
    );

    let package = b"<package><metadata><dc:title>A Book</dc:title><dc:creator>Cy</dc:creator></metadata><manifest>\
        <item id='c2' href='text/two%201.xhtml'/><item id='c1' href='one.xhtml'/></manifest>\
        <spine><itemref idref='c1'/><itemref idref='c2'/></spine></package>";
    let bytes = zip_of(&[
        ("mimetype", b"application/epub+zip"),
        ("META-INF/container.xml", b"<container><rootfile full-path='OPS/p.opf'/></container>"),
        ("OPS/p.opf", package),
        ("OPS/one.xhtml", b"<html><title>x</title><body><h1>One</h1><p>alpha</p></body></html>"),
        ("OPS/text/two 1.xhtml", b"<html><body><p>beta</p></body></html>"),
    ]);
    let (out, outcome) = examine("a", &bytes);
    assert_eq!((outcome, out.text.as_str()), (Ok(()), "One\n\nalpha\n\nbeta"));
    assert_eq!(
        (out.text_of("title"), out.text_of("author"), out.number_of("chapters")),
        (Some("A Book"), Some("Cy"), Some(2.0))
    );
}

/// The billion laughs: entities that stand for ten others each. They are not expanded, so nothing grows.
#[test]
fn bombs_cost_one_bounded_job() {
    let entities: String =
        (1..10).map(|at| format!("<!ENTITY l{at} '{}'>", format!("&l{};", at - 1).repeat(10))).collect();
    let laughs = format!("<!DOCTYPE x [<!ENTITY l0 'lol'>{entities}]><w:p><w:t>&l9;</w:t></w:p>");
    let (out, outcome) = examine("a.docx", &zip_of(&[("word/document.xml", laughs.as_bytes())]));
    assert_eq!((outcome, out.text.len()), (Ok(()), "&l9;".len()));

    let endless = [&b"<w:document><w:p><w:t>"[..], &vec![b'a'; 100 << 20]].concat();
    let bomb = zip_of(&[("word/document.xml", &endless)]);
    assert!(bomb.len() < 1 << 20);
    let (out, outcome) = examine("a.docx", &bomb);
    assert_eq!(outcome, Ok(()));
    assert!(out.notes.iter().any(|note| note.contains("unpacked beyond 64 MiB")), "{:?}", out.notes);

    let deep = "<w:p>".repeat(1 << 20);
    let (_, outcome) = examine("a.docx", &zip_of(&[("word/document.xml", deep.as_bytes())]));
    assert_eq!(outcome, Ok(()));
}

#[test]
fn a_document_without_its_main_part_is_refused_in_words() {
    let (_, outcome) = examine("a.docx", &zip_of(&[("word/other.xml", b"")]));
    assert_eq!(outcome.unwrap_err().to_string(), "not a readable DOCX: it has no word/document.xml");
}
