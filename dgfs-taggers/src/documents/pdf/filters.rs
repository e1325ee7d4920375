//! Unpacks the streams of a PDF.
//!
//! Never gives more than the caller allows. A packing that is not known gives nothing: pictures are not text.

use std::io::Read;

use flate2::read::ZlibDecoder;

/// Filters behind one another: real files have two.
const FILTERS_MAX: usize = 8;

/// A filter with its parameters.
pub(super) struct Filter {
    pub(super) name: String,
    /// 1: none; 10 and above: PNG's.
    pub(super) predictor: usize,
    /// Bytes of a row before prediction.
    pub(super) columns: usize,
}

/// The unpacked bytes, at most `bytes_max`.
pub(super) fn unpacked(raw: &[u8], filters: &[Filter], bytes_max: usize) -> Option<Vec<u8>> {
    if filters.len() > FILTERS_MAX {
        return None;
    }
    let mut content = raw.get(..bytes_max).unwrap_or(raw).to_vec();
    for (at, filter) in filters.iter().enumerate() {
        let input = if at == 0 { raw } else { &content };
        content = match filter.name.as_str() {
            "FlateDecode" | "Fl" => flate(input, bytes_max),
            "LZWDecode" | "LZW" => lzw(input, bytes_max),
            "ASCIIHexDecode" | "AHx" => ascii_hex(input),
            "ASCII85Decode" | "A85" => ascii85(input),
            _ => return None,
        };
        if filter.predictor >= 10 {
            content = png_unpredicted(&content, filter.columns);
        }
        content.truncate(bytes_max);
    }
    Some(content)
}

/// What was unpacked before a break counts.
fn flate(input: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = ZlibDecoder::new(input).take(bytes_max as u64).read_to_end(&mut out);
    out
}

fn ascii_hex(input: &[u8]) -> Vec<u8> {
    let digits: Vec<u8> = input.iter().take_while(|byte| **byte != b'>').filter_map(|byte| nibble(*byte)).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |value, digit| value << 4 | digit)).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn ascii85(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 5 * 4);
    let mut group: Vec<u8> = Vec::with_capacity(5);
    for byte in input {
        match byte {
            b'~' => break,
            b'z' if group.is_empty() => out.extend([0; 4]),
            b'!'..=b'u' => group.push(byte - b'!'),
            _ => {}
        }
        if group.len() == 5 {
            out.extend(base85(&group));
            group.clear();
        }
    }
    if group.len() > 1 {
        let kept = group.len() - 1;
        group.resize(5, 84);
        out.extend(base85(&group).into_iter().take(kept));
    }
    out
}

fn base85(group: &[u8]) -> [u8; 4] {
    let value = group.iter().fold(0_u32, |value, digit| value.wrapping_mul(85).wrapping_add(u32::from(*digit)));
    value.to_be_bytes()
}

/// LZW with codes of 9 to 12 bits, most significant first, which grow one code early (ISO 32000-1, 7.4.4).
fn lzw(input: &[u8], bytes_max: usize) -> Vec<u8> {
    const CLEAR: usize = 256;
    const END: usize = 257;
    let mut out: Vec<u8> = Vec::new();
    // Each code from 258 on stands for a piece of what was put out: its beginning and length.
    let mut table: Vec<(usize, usize)> = Vec::new();
    let mut previous: Option<(usize, usize)> = None;
    let (mut bits, mut count): (u32, u32) = (0, 0);
    let mut input = input.iter();
    while out.len() < bytes_max {
        let width = match table.len() + 258 {
            0..=510 => 9,
            511..=1022 => 10,
            1023..=2046 => 11,
            _ => 12,
        };
        while count < width {
            let Some(byte) = input.next() else { return out };
            bits = bits << 8 | u32::from(*byte);
            count += 8;
        }
        count -= width;
        let code = (bits >> count & ((1 << width) - 1)) as usize;
        match code {
            CLEAR => {
                table.clear();
                previous = None;
                continue;
            }
            END => return out,
            _ => {}
        }
        // The code just being made is the last piece with the byte that follows it.
        if let Some((start, len)) = previous.filter(|_| table.len() < 4096 - 258) {
            table.push((start, len + 1));
        }
        let start = out.len();
        match u8::try_from(code) {
            Ok(byte) => out.push(byte),
            Err(_) => {
                let Some((from, len)) = table.get(code - 258).copied() else { return out };
                for at in from..from + len {
                    let Some(byte) = out.get(at).copied() else { return out };
                    out.push(byte);
                }
            }
        }
        previous = Some((start, out.len() - start));
    }
    out
}

/// Undoes PNG's prediction (ISO/IEC 15948, 9): each row begins with its kind. One byte for a pixel, as the tables of PDF
/// have.
fn png_unpredicted(content: &[u8], columns: usize) -> Vec<u8> {
    if columns == 0 {
        return Vec::new();
    }
    let mut out: Vec<u8> = Vec::with_capacity(content.len());
    let mut above = vec![0_u8; columns];
    for row in content.chunks(columns.saturating_add(1)) {
        let Some((kind, row)) = row.split_first() else { break };
        let (mut left, mut corner) = (0_u8, 0_u8);
        for (byte, up) in row.iter().zip(&mut above) {
            let guess = match kind {
                1 => left,
                2 => *up,
                3 => u8::midpoint(left, *up),
                4 => paeth(left, *up, corner),
                _ => 0,
            };
            corner = *up;
            left = byte.wrapping_add(guess);
            *up = left;
            out.push(left);
        }
    }
    out
}

fn paeth(left: u8, up: u8, corner: u8) -> u8 {
    let guess = i16::from(left) + i16::from(up) - i16::from(corner);
    let far = |value: u8| (guess - i16::from(value)).abs();
    if far(left) <= far(up) && far(left) <= far(corner) {
        left
    } else if far(up) <= far(corner) {
        up
    } else {
        corner
    }
}

#[cfg(test)]
mod tests {
    use super::{ascii_hex, ascii85, lzw, png_unpredicted};

    #[test]
    fn each_packing_is_undone() {
        assert_eq!(ascii_hex(b"48 65 6C>zz"), b"Hel");
        assert_eq!(ascii85(b"87cURD]i,\"Ebo80~>"), b"Hello World!");
        // The example of ISO 32000-1, 7.4.4.2.
        assert_eq!(
            lzw(&[0x80, 0x0b, 0x60, 0x50, 0x22, 0x0c, 0x0c, 0x85, 0x01], 100),
            [45, 45, 45, 45, 45, 65, 45, 45, 45, 66]
        );
        assert_eq!(png_unpredicted(&[2, 1, 2, 2, 1, 1], 2), [1, 2, 2, 3]);
        assert_eq!(png_unpredicted(&[1], 0), Vec::<u8>::new());
    }
}
