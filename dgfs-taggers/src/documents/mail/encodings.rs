//! How mails spell what is not ASCII: base64, quoted-printable (RFC 2045) and encoded words (RFC 2047).
//!
//! Never fails: what is not well spelt stays as it is or is left out.

use crate::text::decode;

/// The bytes of a part from what its `Content-Transfer-Encoding` made of them.
pub(super) fn transfer_decoded(body: &[u8], encoding: &str) -> Vec<u8> {
    match encoding.trim().to_ascii_lowercase().as_str() {
        "base64" => base64(body),
        "quoted-printable" => quoted_printable(body, false),
        _ => body.to_vec(),
    }
}

/// Letters outside of the alphabet are left out, as the standard asks.
fn base64(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let mut bits: u32 = 0;
    let mut count = 0;
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' => break,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    out
}

/// `=E4` is a byte, `=` before a line's end joins lines, and in encoded words `_` is a space.
fn quoted_printable(text: &[u8], is_word: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'_' && is_word {
            out.push(b' ');
        } else if first != b'=' {
            out.push(first);
        } else if let Some(behind) = tail.strip_prefix(b"\r\n").or_else(|| tail.strip_prefix(b"\n")) {
            rest = behind;
        } else {
            let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                Some(byte) => {
                    out.push(byte);
                    rest = tail.get(2..).unwrap_or_default();
                }
                None => out.push(b'='),
            }
        }
    }
    out
}

/// A field's text with its words `=?CHARSET?B|Q?…?=` decoded; gaps between two of them are left out.
pub(super) fn decoded_words(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    let mut is_behind_word = false;
    while let Some((before, tail)) = rest.split_once("=?") {
        let Some((word, behind)) = encoded_word(tail) else {
            out.push_str(before);
            out.push_str("=?");
            rest = tail;
            is_behind_word = false;
            continue;
        };
        if !(is_behind_word && before.trim().is_empty()) {
            out.push_str(before);
        }
        out.push_str(&word);
        is_behind_word = true;
        rest = behind;
    }
    out.push_str(rest);
    out
}

fn encoded_word(tail: &str) -> Option<(String, &str)> {
    let (charset, tail) = tail.split_once('?')?;
    let (encoding, tail) = tail.split_once('?')?;
    let (text, behind) = tail.split_once("?=")?;
    let bytes = match encoding {
        "B" | "b" => base64(text.as_bytes()),
        "Q" | "q" => quoted_printable(text.as_bytes(), true),
        _ => return None,
    };
    Some((decode::decode(&bytes, Some(charset), bytes.len()).text, behind))
}

#[cfg(test)]
mod tests {
    use super::{decoded_words, transfer_decoded};

    #[test]
    fn words_and_bodies_are_decoded() {
        assert_eq!(
            decoded_words("=?utf-8?B?5Lit5paH?= =?utf-8?Q?caf=C3=A9_x?= end"),
            "\u{4e2d}\u{6587}caf\u{e9} x end"
        );
        assert_eq!(decoded_words("=?gbk?B?1tDOxA==?="), "\u{4e2d}\u{6587}");
        assert_eq!(decoded_words("a =?broken ?= b =?utf-8?X?y?="), "a =?broken ?= b =?utf-8?X?y?=");
        assert_eq!(transfer_decoded(b"a=3Db=\r\nc=ZZ=", "Quoted-Printable"), b"a=bc=ZZ=");
        assert_eq!(transfer_decoded(b"aGVs\r\nbG8=", " BASE64 "), b"hello");
    }
}
