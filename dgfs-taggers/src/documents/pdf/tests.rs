//! PDFs made here: plain, packed, broken, hostile.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::PdfTagger;
use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::kind_of;
use crate::tagger::{Tagger, TaggerError};
use crate::testing::pdf_of;

fn examine(bytes: &[u8]) -> (Findings, Result<(), TaggerError>) {
    let job = Job { name: "a.pdf", size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
    let kind = kind_of(&job);
    assert!(PdfTagger.wants(&kind), "{kind:?}");
    let mut out = Findings::default();
    let outcome = PdfTagger.examine(&job, &kind, &mut out);
    (out, outcome)
}

fn flate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn stream(dict: &str, content: &[u8]) -> Vec<u8> {
    [format!("<<{dict}/Length {}>>stream\n", content.len()).as_bytes(), content, b"\nendstream"].concat()
}

const CONTENT: &str = "BT /F1 12 Tf 72 700 Td (Metadata ser-) Tj 0 -14 Td (vers keep) Tj [(na) -20 (mes) -300 (and)] TJ \
    T* (places.) ' ET BI /W 1 ID xx(no)Tj\nEI q Q";

fn objects(content: Vec<u8>) -> Vec<Vec<u8>> {
    [
        &b"<</Type/Catalog/Pages 2 0 R>>"[..],
        b"<</Type/Pages/Kids[3 0 R]/Count 1/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/Annots[7 0 R]>>",
        &content,
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Title(The \\(big\\) Plan)/Author<FEFF00C4006400610021>/CreationDate(D:20240305102030Z)/Keywords(graph; disk)>>",
        b"<</Type/Annot/Subtype/Link/A<</S/URI/URI(https://example.org/)>>>>",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

#[test]
fn a_document_gives_text_properties_pages_and_links() {
    for content in [stream("", CONTENT.as_bytes()), stream("/Filter/FlateDecode", &flate(CONTENT.as_bytes()))] {
        let (out, outcome) = examine(&pdf_of(&objects(content), "/Root 1 0 R/Info 6 0 R"));
        assert_eq!(outcome, Ok(()));
        assert_eq!(out.text, "Metadata servers keepnames and\nplaces.");
        assert_eq!((out.text_of("title"), out.text_of("author")), (Some("The (big) Plan"), Some("\u{c4}da!")));
        assert_eq!((out.time_of("created"), out.number_of("pages")), (Some(1_709_634_030), Some(1.0)));
        assert!(out.links.iter().any(|link| link.kind == LinkKind::Hyperlink && link.target == "https://example.org/"));
        assert!(out.marks.iter().any(|mark| mark.tag == "graph"));
    }
}

#[test]
fn packed_objects_and_unicode_maps_are_read() {
    let map = b"1 begincodespacerange <0000> <ffff> endcodespacerange 1 beginbfrange <0001> <0003> <4e2d> endbfrange \
        1 beginbfchar <0010> <00480069> endbfchar";
    let packed: [(u32, &str); 2] = [
        (1, "<</Type/Catalog/Pages 2 0 R>>"),
        (2, "<</Type/Pages/Kids[3 0 R]/Resources<</Font<</F1<</Subtype/Type0/ToUnicode 6 0 R>>>>>>>>"),
    ];
    let index = format!("1 0 2 {} ", packed[0].1.len() + 1);
    let body = format!("{index}{} {}", packed[0].1, packed[1].1);
    let dict = format!("/Type/ObjStm/N 2/First {}/Filter/FlateDecode", index.len());
    let mut file = b"%PDF-1.5\n".to_vec();
    for (number, object) in [
        (3, b"<</Type/Page/Contents 5 0 R>>".to_vec()),
        (4, stream(&dict, &flate(body.as_bytes()))),
        (5, stream("", b"BT /F1 1 Tf <000100020010> Tj ET")),
        (6, stream("", map)),
        (7, stream("/Type/XRef/Root 1 0 R", b"")),
    ] {
        file.extend([format!("{number} 0 obj\n").as_bytes(), &object, b"\nendobj\n"].concat());
    }
    let (out, outcome) = examine(&file);
    assert_eq!((outcome, out.text.as_str()), (Ok(()), "\u{4e2d}\u{4e2e}Hi"));
}

#[test]
fn encrypted_and_empty_files_say_so() {
    let (out, outcome) = examine(&pdf_of(&objects(stream("", b"")), "/Root 1 0 R/Encrypt 9 0 R"));
    assert_eq!((outcome, out.notes), (Ok(()), vec!["the document is encrypted".to_owned()]));
    assert_eq!(
        examine(b"%PDF-1.7\n").1.unwrap_err().to_string(),
        "not a readable PDF: no object in it, expected such as `1 0 obj`"
    );
}

#[test]
fn hostile_files_cost_one_bounded_job() {
    let bomb = stream("/Filter[/FlateDecode/FlateDecode]", &flate(&flate(&vec![b' '; 300 << 20])));
    let circle = vec![b"<</Pages 2 0 R>>".to_vec(), b"<</Kids[2 0 R 2 0 R 3 0 R]>>".to_vec(), b"3 0 R".to_vec()];
    let deep = vec!["[".repeat(1 << 20).into_bytes(), "<<".repeat(1 << 20).into_bytes()];
    let form = stream("/Subtype/Form/Resources<</XObject<</X 4 0 R>>>>", b"/X Do /X Do /X Do (a) Tj");
    let mut forms = objects(form);
    forms[2] = b"<</Type/Page/Contents 4 0 R/Resources<</XObject<</X 4 0 R>>>>>>".to_vec();
    for objects in [objects(bomb), circle, deep, forms] {
        let (out, outcome) = examine(&pdf_of(&objects, "/Root 1 0 R"));
        assert_eq!(outcome, Ok(()));
        assert!(out.text.len() < 1000);
    }
}
