//! Small files of each format, made for tests.

use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::DeflateEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// A ZIP of deflated members; one called `mimetype` is stored, as OpenDocument and EPUB ask.
pub(crate) fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in members {
        let offset = out.len() as u32;
        let is_stored = *name == "mimetype";
        let packed = if is_stored { content.to_vec() } else { deflate(content) };
        let method = if is_stored { 0_u16 } else { 8 };
        let mut fields = Vec::new();
        fields.extend(0_u16.to_le_bytes());
        fields.extend(method.to_le_bytes());
        fields.extend([0; 8]);
        fields.extend((packed.len() as u32).to_le_bytes());
        fields.extend((content.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0; 2]);
        out.extend(b"PK\x03\x04\x14\0");
        out.extend(&fields);
        out.extend(name.as_bytes());
        out.extend(packed);
        directory.extend(b"PK\x01\x02\x14\0\x14\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, size) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([members.len() as u16; 2].map(u16::to_le_bytes).concat());
    out.extend(size.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend([0; 2]);
    out
}

fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A PDF of these objects, numbered from 1, with this trailer. It has no table of offsets, as broken files have none.
pub(crate) fn pdf_of(objects: &[Vec<u8>], trailer: &str) -> Vec<u8> {
    let mut out = b"%PDF-1.4\n".to_vec();
    for (number, object) in (1..).zip(objects) {
        out.extend(format!("{number} 0 obj\n").as_bytes());
        out.extend(object);
        out.extend(b"\nendobj\n");
    }
    out.extend(format!("trailer<<{trailer}>>\n%%EOF").as_bytes());
    out
}

/// A blue picture with a bright corner, 96 by 64.
pub(crate) fn picture_as(format: ImageFormat) -> Vec<u8> {
    let picture =
        RgbImage::from_fn(
            96,
            64,
            |x, y| {
                if x + y < 40 { Rgb([250, 240, 220]) } else { Rgb([20, 60 + (x / 3) as u8, 200]) }
            },
        );
    let mut out = Cursor::new(Vec::new());
    DynamicImage::ImageRgb8(picture).write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// The picture with what a camera writes: a Canon held upright in Hefei.
pub(crate) fn jpeg_with_exif() -> Vec<u8> {
    let jpeg = picture_as(ImageFormat::Jpeg);
    let tiff = tiff();
    let mut out = jpeg[..2].to_vec();
    out.extend(b"\xff\xe1");
    out.extend((tiff.len() as u16 + 8).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(tiff);
    out.extend(&jpeg[2..]);
    out
}

/// One field of a TIFF directory: tag, type, count, bytes.
type Field = (u16, u16, u32, Vec<u8>);

fn ascii(tag: u16, text: &str) -> Field {
    (tag, 2, text.len() as u32 + 1, format!("{text}\0").into_bytes())
}

fn rationals(tag: u16, values: [u32; 3]) -> Field {
    (tag, 5, 3, values.iter().flat_map(|value| [*value, 100].map(u32::to_le_bytes).concat()).collect())
}

fn long(tag: u16, value: u32) -> Field {
    (tag, 4, 1, value.to_le_bytes().to_vec())
}

fn tiff() -> Vec<u8> {
    let main = |exif: u32, gps: u32| {
        let orientation = (0x0112, 3, 1, vec![6, 0]);
        vec![ascii(0x010f, "Canon"), ascii(0x0110, "Canon EOS R5"), orientation, long(0x8769, exif), long(0x8825, gps)]
    };
    let exif = vec![ascii(0x9003, "2024:03:05 18:20:30"), ascii(0x9011, "+08:00")];
    let gps = vec![ascii(1, "N"), rationals(2, [3100, 5183, 0]), ascii(3, "E"), rationals(4, [11700, 1685, 0])];
    let exif_at = 8 + directory(&main(0, 0), 8).len() as u32;
    let gps_at = exif_at + directory(&exif, exif_at).len() as u32;
    let parts = [directory(&main(exif_at, gps_at), 8), directory(&exif, exif_at), directory(&gps, gps_at)];
    [b"II*\0\x08\0\0\0".to_vec(), parts.concat()].concat()
}

fn directory(fields: &[Field], at: u32) -> Vec<u8> {
    let mut out = (fields.len() as u16).to_le_bytes().to_vec();
    let mut data: Vec<u8> = Vec::new();
    let data_at = at + 2 + 12 * fields.len() as u32 + 4;
    for (tag, kind, count, bytes) in fields {
        out.extend([tag.to_le_bytes(), kind.to_le_bytes()].concat());
        out.extend(count.to_le_bytes());
        if bytes.len() <= 4 {
            let mut inline = bytes.clone();
            inline.resize(4, 0);
            out.extend(inline);
        } else {
            out.extend((data_at + data.len() as u32).to_le_bytes());
            data.extend(bytes);
        }
    }
    out.extend([0; 4]);
    out.extend(data);
    out
}

/// A hundred silent frames of MPEG 1 layer III at 128 kbit/s, with an ID3 tag.
pub(crate) fn mp3() -> Vec<u8> {
    let frame = |id: &str, text: &str| {
        let mut out = id.as_bytes().to_vec();
        out.extend((text.len() as u32 + 1).to_be_bytes());
        out.extend([0, 0, 3]);
        out.extend(text.as_bytes());
        out
    };
    let frames = [frame("TIT2", "Song"), frame("TPE1", "Someone"), frame("TCON", "Jazz")].concat();
    let mut out = b"ID3\x03\0\0\0\0".to_vec();
    out.extend([(frames.len() >> 7) as u8, (frames.len() & 0x7f) as u8]);
    out.extend(frames);
    let mut sound = b"\xff\xfb\x90\x64".to_vec();
    sound.resize(417, 0);
    out.extend(sound.repeat(100));
    out
}

/// A second of silence, 8 kHz, 16 bit, one channel.
pub(crate) fn wav() -> Vec<u8> {
    let mut out = b"RIFF".to_vec();
    out.extend(16_036_u32.to_le_bytes());
    out.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    out.extend([8000_u32.to_le_bytes(), 16_000_u32.to_le_bytes()].concat());
    out.extend(b"\x02\0\x10\0data");
    out.extend(16_000_u32.to_le_bytes());
    out.resize(out.len() + 16_000, 0);
    out
}

fn mp4_box(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32 + 8).to_be_bytes()[..], name, content].concat()
}

/// A film of 12.5 seconds, taken in Hefei.
pub(crate) fn mp4() -> Vec<u8> {
    let created = 1_709_634_030_u32.wrapping_add(2_082_844_800);
    let mut header = vec![0; 4];
    header.extend([created, created, 1000, 12_500].map(u32::to_be_bytes).concat());
    header.resize(100, 0);
    let mut track = vec![0; 40];
    track.extend(
        [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000, 1920 << 16, 1080 << 16_u32].map(u32::to_be_bytes).concat(),
    );
    let place = b"+31.8639+117.2808/";
    let place = [&[0, place.len() as u8, 0, 0][..], place].concat();
    let movie = [
        mp4_box(b"mvhd", &header),
        mp4_box(b"trak", &mp4_box(b"tkhd", &track)),
        mp4_box(b"udta", &mp4_box(b"\xa9xyz", &place)),
    ];
    [mp4_box(b"ftyp", b"isom\0\0\0\0isomavc1"), mp4_box(b"mdat", &[0; 64]), mp4_box(b"moov", &movie.concat())].concat()
}

fn element(id: &[u8], content: &[u8]) -> Vec<u8> {
    [id, &(0x4000 | content.len() as u16).to_be_bytes(), content].concat()
}

/// A film of 12.5 seconds called "Film".
pub(crate) fn mkv() -> Vec<u8> {
    let info = [element(b"\x44\x89", &12_500_f64.to_be_bytes()), element(b"\x7b\xa9", b"Film")].concat();
    let size = [element(b"\xb0", &1920_u16.to_be_bytes()), element(b"\xba", &1080_u16.to_be_bytes())].concat();
    let track = element(b"\xae", &[element(b"\x86", b"V_VP9"), element(b"\xe0", &size)].concat());
    let segment = [element(b"\x15\x49\xa9\x66", &info), element(b"\x16\x54\xae\x6b", &track)].concat();
    [element(b"\x1a\x45\xdf\xa3", &element(b"\x42\x82", b"webm")), element(b"\x18\x53\x80\x67", &segment)].concat()
}

/// A film of 12.5 seconds.
pub(crate) fn avi() -> Vec<u8> {
    let mut header = vec![0; 56];
    for (at, value) in [(0, 50_000_u32), (16, 250), (32, 1920), (36, 1080)] {
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    [&b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0"[..], &header].concat()
}
