//! Bytes to characters.
//!
//! Never fails: bytes that no encoding explains become replacement characters. A byte order mark decides first, then
//! the caller's hint, then UTF-8 where it fits, then the look of the bytes.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

/// Bytes that the guess looks at: enough for any language.
const GUESS_BYTES_MAX: usize = 64 << 10;

/// A decoded text.
pub(crate) struct Decoded {
    pub(crate) text: String,
    /// The encoding's name as the Encoding Standard spells it.
    pub(crate) charset: &'static str,
}

/// Decodes at most `bytes_max` bytes.
pub(crate) fn decode(bytes: &[u8], hint: Option<&str>, bytes_max: usize) -> Decoded {
    let is_cut = bytes.len() > bytes_max;
    let bytes = bytes.get(..bytes_max).unwrap_or(bytes);
    let hinted = hint.and_then(|label| Encoding::for_label(label.as_bytes()));
    let encoding = match Encoding::for_bom(bytes) {
        Some((encoding, _)) => encoding,
        None => hinted.unwrap_or_else(|| guess(bytes, is_cut)),
    };
    let (text, encoding, _) = encoding.decode(bytes);
    let mut text = text.into_owned();
    if is_cut && text.ends_with('\u{fffd}') {
        // The cut went through a character.
        text.pop();
    }
    Decoded { text, charset: encoding.name() }
}

fn guess(bytes: &[u8], is_cut: bool) -> &'static Encoding {
    let head = bytes.get(..GUESS_BYTES_MAX).unwrap_or(bytes);
    match std::str::from_utf8(head) {
        Ok(_) => return UTF_8,
        Err(error) if error.error_len().is_none() && (is_cut || head.len() < bytes.len()) => return UTF_8,
        Err(_) => {}
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(head, head.len() == bytes.len());
    detector.guess(None, Utf8Detection::Allow)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn marks_hints_and_looks_decide_in_this_order() {
        let chinese = "\u{6211}\u{4eec}\u{7684}\u{6587}\u{4ef6}\u{7cfb}\u{7edf}\u{53ef}\u{4ee5}\u{641c}\u{7d22}\u{6240}\u{6709}\u{7684}\u{5185}\u{5bb9}";
        let (gbk, _, _) = encoding_rs::GBK.encode(chinese);
        assert_eq!(decode(&gbk, None, 1000).text, chinese);
        assert_eq!(decode(b"\xff\xfeH\0i\0", Some("gbk"), 1000).text, "Hi");
        assert_eq!(decode(b"caf\xe9", Some("latin1"), 1000).text, "caf\u{e9}");
        assert_eq!(decode(b"caf\xe9", Some("no such"), 1000).charset, "windows-1252");
        assert_eq!(decode("caf\u{e9}".as_bytes(), None, 4).text, "caf", "a cut character is left out");
        assert_eq!(decode(b"\0\xff\xfe\x80", Some("utf-8"), 1000).text.chars().next(), Some('\0'));
    }
}
