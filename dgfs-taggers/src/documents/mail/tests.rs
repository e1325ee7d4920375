//! A mail with everything, and broken ones.

use super::MailTagger;
use crate::findings::{Findings, LinkKind};
use crate::job::Job;
use crate::kind::kind_of;
use crate::tagger::Tagger;

fn examine(mail: &str) -> Findings {
    let bytes = mail.as_bytes();
    let job = Job { name: "x.eml", size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
    let kind = kind_of(&job);
    assert!(MailTagger.wants(&kind), "{kind:?}");
    let mut out = Findings::default();
    MailTagger.examine(&job, &kind, &mut out).unwrap();
    out
}

const MAIL: &str = "From: =?utf-8?Q?J=C3=BCrgen?= <j@example.org>\r\nTo: a@example.org,\r\n b@example.org\r\n\
    Subject: Storage\r\n plan\r\nDate: Tue, 5 Mar 2024 10:20:30 +0000\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\n\
    MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b1\"\r\n\r\npreamble\r\n--b1\r\n\
    Content-Type: multipart/alternative; boundary=b2\r\n\r\n--b2\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Transfer-Encoding: base64\r\n\r\nVGhlIHBsYW4gaXMgcmVhZHku\r\n--b2\r\nContent-Type: text/html\r\n\r\n\
    <p>The <a href=\"https://example.org/plan\">plan</a></p>\r\n--b2--\r\n--b1\r\nContent-Type: application/pdf\r\n\
    Content-Disposition: attachment; filename=\"plan.pdf\"\r\n\r\nxxxx\r\n--b1--\r\nepilogue";

#[test]
fn a_mail_gives_people_date_text_links_and_attachments() {
    let out = examine(MAIL);
    assert_eq!(out.text_of("title"), Some("Storage plan"));
    assert_eq!(out.text_of("author"), Some("J\u{fc}rgen <j@example.org>"));
    assert_eq!(out.time_of("sent"), Some(1_709_634_030));
    assert_eq!(out.text_of("message-id"), Some("1@x"));
    assert!(out.text.contains("The plan is ready.") && !out.text.contains("preamble"), "{}", out.text);
    let has = |kind, target: &str| out.links.iter().any(|link| link.kind == kind && link.target == target);
    assert!(has(LinkKind::Reference, "0@x") && has(LinkKind::Member, "plan.pdf"));
    assert!(has(LinkKind::Hyperlink, "https://example.org/plan"), "{:?}", out.links);
}

#[test]
fn a_mailbox_gives_its_first_mail_and_their_number() {
    let out = examine("From x Mon\nFrom: a@b\nTo: c@d\nSubject: One\n\nFirst\n\nFrom y Tue\nFrom: e@f\n\nSecond");
    assert_eq!((out.number_of("mails"), out.text_of("title")), (Some(2.0), Some("One")));
    assert!(!out.text.contains("Second"));
}

#[test]
fn parts_within_parts_end_at_the_bound() {
    let head = "From: a@b\nTo: c@d\nSubject: x\nContent-Type: multipart/mixed; boundary=b\n\n";
    let inner = "--b\nContent-Type: multipart/mixed; boundary=b\n\n";
    let out = examine(&format!("{head}{}", inner.repeat(100_000)));
    assert!(out.notes.is_empty() || out.notes[0].contains("parts"));
    let nested: String =
        (0..40).map(|at| format!("--{at}\nContent-Type: multipart/mixed; boundary={}\n\n", at + 1)).collect();
    let out = examine(&format!(
        "From: a@b\nTo: c@d\nSubject: x\nContent-Type: multipart/mixed; boundary=0\n\n{nested}--40\n\nx"
    ));
    assert!(out.notes[0].contains("nested deeper"), "{:?}", out.notes);
}
