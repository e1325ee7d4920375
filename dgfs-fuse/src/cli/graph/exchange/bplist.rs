//! Binary property lists, as far as the Finder's tags need them: one list of texts.
//!
//! Never recurses and never reads outside the bytes: every place is checked. Not a reader of property lists: whatever is not a list
//! of texts is refused. (Libraries for all of the format bring XML, dates and Base64; this value needs none of it, comes from
//! strangers, and a general reader follows references as deep as they go.)
//!
//! The format: Apple, `CFBinaryPList.c` of Core Foundation: `bplist00`, objects, a table of their offsets, a trailer of 32 bytes.

use dgfs_proto::limits::TAGS_PER_FILE_MAX;

const MAGIC: &[u8] = b"bplist00";
const TRAILER: usize = 32;
/// Kinds of objects: the upper half of their first byte.
const INTEGER: u8 = 0x1;
const ASCII: u8 = 0x5;
const UTF16: u8 = 0x6;
const UTF8: u8 = 0x7;
const ARRAY: u8 = 0xa;
/// Of the lower half: the count stands in an integer behind.
const COUNT_FOLLOWS: u8 = 0xf;

/// The texts of the list.
pub(super) fn texts(bytes: &[u8]) -> Result<Vec<String>, &'static str> {
    let list = List::open(bytes).ok_or("not a binary property list")?;
    let (kind, count, at) = list.object(list.top).ok_or("damaged at its top object")?;
    if kind != ARRAY {
        return Err("expected a list of texts");
    }
    if count > TAGS_PER_FILE_MAX {
        return Err("more tags than a file may have");
    }
    (0..count).map(|item| list.text(at + item * list.ref_bytes)).collect()
}

/// A checked trailer, and the bytes.
struct List<'a> {
    bytes: &'a [u8],
    offset_bytes: usize,
    ref_bytes: usize,
    objects: usize,
    top: usize,
    table: usize,
}

impl<'a> List<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let trailer = bytes.get(bytes.len().checked_sub(TRAILER)?..)?;
        let width =
            |at: usize| trailer.get(at).map(|width| usize::from(*width)).filter(|width| (1..=8).contains(width));
        let number = |at: usize| trailer.get(at..at + 8).and_then(big_endian);
        let (objects, top, table) = (number(8)?, number(16)?, number(24)?);
        Some(Self { bytes, offset_bytes: width(6)?, ref_bytes: width(7)?, objects, top, table })
    }

    fn number(&self, at: usize, width: usize) -> Option<usize> {
        self.bytes.get(at..at.checked_add(width)?).and_then(big_endian)
    }

    /// Kind, count and first content byte of an object.
    fn object(&self, index: usize) -> Option<(u8, usize, usize)> {
        if index >= self.objects {
            return None;
        }
        let entry = index.checked_mul(self.offset_bytes)?.checked_add(self.table)?;
        let at = self.number(entry, self.offset_bytes)?;
        let marker = *self.bytes.get(at)?;
        let (kind, low) = (marker >> 4, marker & 0xf);
        if low != COUNT_FOLLOWS {
            return Some((kind, usize::from(low), at + 1));
        }
        let size = *self.bytes.get(at + 1)?;
        if size >> 4 != INTEGER || size & 0xf > 3 {
            return None;
        }
        let width = 1_usize << (size & 0xf);
        Some((kind, self.number(at + 2, width)?, at + 2 + width))
    }

    /// The text that the reference at `at` leads to.
    fn text(&self, at: usize) -> Result<String, &'static str> {
        let object = self.number(at, self.ref_bytes).and_then(|index| self.object(index));
        let (kind, count, from) = object.ok_or("damaged in its list")?;
        let content = |width: usize| {
            let to = count.checked_mul(width).and_then(|len| len.checked_add(from));
            to.and_then(|to| self.bytes.get(from..to)).ok_or("damaged in a text")
        };
        match kind {
            ASCII | UTF8 => String::from_utf8(content(1)?.to_vec()).map_err(|_| "a text is no UTF-8"),
            UTF16 => {
                let pair = |pair: &[u8]| pair.iter().fold(0, |unit, byte| unit << 8 | u16::from(*byte));
                let units: Vec<u16> = content(2)?.chunks_exact(2).map(pair).collect();
                String::from_utf16(&units).map_err(|_| "a text is no UTF-16")
            }
            _ => Err("expected a list of texts"),
        }
    }
}

fn big_endian(bytes: &[u8]) -> Option<usize> {
    let number =
        bytes.iter().try_fold(0_u64, |number, byte| number.checked_mul(256).map(|number| number | u64::from(*byte)));
    number.and_then(|number| usize::try_from(number).ok())
}

/// Property lists for tests.
#[cfg(test)]
pub(super) mod testing {
    /// A list of `texts`, written as Core Foundation does: ASCII where that suffices, else UTF-16.
    pub(crate) fn list(texts: &[&str]) -> Vec<u8> {
        let mut bytes = b"bplist00".to_vec();
        let mut offsets = vec![bytes.len()];
        mark(&mut bytes, 0xa0, texts.len());
        bytes.extend((1..=texts.len()).map(|index| index as u8));
        for text in texts {
            offsets.push(bytes.len());
            if text.is_ascii() {
                mark(&mut bytes, 0x50, text.len());
                bytes.extend(text.as_bytes());
            } else {
                mark(&mut bytes, 0x60, text.encode_utf16().count());
                bytes.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
            }
        }
        let table = bytes.len() as u64;
        bytes.extend(offsets.iter().flat_map(|offset| (*offset as u16).to_be_bytes()));
        bytes.extend([0, 0, 0, 0, 0, 0, 2, 1]);
        for number in [offsets.len() as u64, 0, table] {
            bytes.extend(number.to_be_bytes());
        }
        bytes
    }

    fn mark(bytes: &mut Vec<u8>, kind: u8, count: usize) {
        if count < 15 {
            bytes.push(kind | count as u8);
        } else {
            bytes.extend([kind | 0xf, 0x10, count as u8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::testing::list;
    use super::texts;
    use crate::cli::graph::output::unhex;

    #[test]
    fn texts_of_both_kinds_and_all_lengths_are_read() {
        let long = "x".repeat(200);
        let words = ["Red\n6", "Grün", "海\n0", &long, ""];
        assert_eq!(texts(&list(&words)).unwrap(), words);
        let many: Vec<String> = (0..40).map(|at| format!("tag {at}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(texts(&list(&many)).unwrap(), many);
        assert!(texts(&list(&[])).unwrap().is_empty());
    }

    /// What python's `plistlib.dumps(["Red\n6", "Grün"], fmt=plistlib.FMT_BINARY)` writes.
    #[test]
    fn what_another_writer_made_is_read() {
        let hex = "62706c6973743030a20102555265640a36640047007200fc006e080b11\
                   000000000000010100000000000000030000000000000000000000000000001a";
        assert_eq!(texts(&unhex(hex).unwrap()).unwrap(), ["Red\n6", "Grün"]);
    }

    #[test]
    fn other_objects_are_refused() {
        let mut dictionary = list(&["a"]);
        dictionary[8] = 0xd1;
        assert_eq!(texts(&dictionary), Err("expected a list of texts"));
        let mut nested = list(&["a"]);
        nested[10] = 0xa1;
        assert!(texts(&nested).is_err());
        assert_eq!(texts(b"<?xml"), Err("not a binary property list"));
        assert_eq!(texts(b"bplist00"), Err("not a binary property list"));
        let mut huge = b"bplist00\xaf\x13\xff\xff\xff\xff\xff\xff\xff\xff\x08".to_vec();
        huge.extend([0, 0, 0, 0, 0, 0, 1, 1]);
        huge.extend([1_u64, 0, 18].iter().flat_map(|number| number.to_be_bytes()));
        assert_eq!(texts(&huge), Err("more tags than a file may have"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_make_it_panic(noise in any::<Vec<u8>>(), at in any::<usize>(), byte in any::<u8>()) {
            let _ = texts(&noise);
            let mut damaged = list(&["Red\n6", "Grün", "long enough for a count that follows"]);
            let at = at % damaged.len();
            damaged[at] = byte;
            let _ = texts(&damaged);
            let _ = texts(&damaged[..at]);
        }
    }
}
