//! The marks that formats begin with.
//!
//! Never looks inside a container. Each mark is long enough that text or noise does not have it by chance, or is
//! checked further; the first that fits decides.

use super::{Class, Row};

/// Bytes at an offset, and what they say.
struct Mark {
    at: usize,
    bytes: &'static [u8],
    row: Row,
}

const fn mark(at: usize, bytes: &'static [u8], row: Row) -> Mark {
    Mark { at, bytes, row }
}

const fn row(class: Class, mime: &'static str, ext: &'static str) -> Row {
    Row::new(class, mime, ext)
}

/// From the formats' own specifications; the offsets count from the file's beginning.
const MARKS: &[Mark] = &[
    mark(0, b"\x89PNG\r\n\x1a\n", row(Class::Image, "image/png", "png")),
    mark(0, b"\xff\xd8\xff", row(Class::Image, "image/jpeg", "jpg")),
    mark(0, b"GIF87a", row(Class::Image, "image/gif", "gif")),
    mark(0, b"GIF89a", row(Class::Image, "image/gif", "gif")),
    mark(0, b"II*\0", row(Class::Image, "image/tiff", "tif")),
    mark(0, b"MM\0*", row(Class::Image, "image/tiff", "tif")),
    mark(0, b"8BPS\0\x01", row(Class::Image, "image/vnd.adobe.photoshop", "psd")),
    mark(0, b"\0\0\0\x0cjP  \r\n\x87\n", row(Class::Image, "image/jp2", "jp2")),
    mark(0, b"\0\0\0\x0cJXL \r\n\x87\n", row(Class::Image, "image/jxl", "jxl")),
    mark(0, b"\xff\x4f\xff\x51\0", row(Class::Image, "image/x-jp2-codestream", "j2c")),
    mark(0, b"v/1\x01", row(Class::Image, "image/x-exr", "exr")),
    mark(0, b"qoif", row(Class::Image, "image/qoi", "qoi")),
    mark(0, b"DDS |\0\0\0", row(Class::Image, "image/vnd.ms-dds", "dds")),
    mark(0, b"gimp xcf ", row(Class::Image, "image/x-xcf", "xcf")),
    mark(0, b"AT&TFORM", row(Class::Document, "image/vnd.djvu", "djvu")),
    mark(0, b"%PDF-", row(Class::Document, "application/pdf", "pdf")),
    mark(0, b"\xef\xbb\xbf%PDF-", row(Class::Document, "application/pdf", "pdf")),
    mark(0, b"%!PS-Adobe", row(Class::Document, "application/postscript", "ps")),
    mark(0, b"{\\rtf", row(Class::Document, "application/rtf", "rtf")),
    mark(60, b"BOOKMOBI", row(Class::Document, "application/x-mobipocket-ebook", "mobi")),
    mark(0, b"ITSF\x03\0\0\0", row(Class::Document, "application/vnd.ms-htmlhelp", "chm")),
    mark(0, b"ID3", row(Class::Audio, "audio/mpeg", "mp3")),
    mark(0, b"fLaC", row(Class::Audio, "audio/flac", "flac")),
    mark(0, b"MThd\0\0\0\x06", row(Class::Audio, "audio/midi", "mid")),
    mark(0, b"#!AMR", row(Class::Audio, "audio/amr", "amr")),
    mark(0, b"MAC ", row(Class::Audio, "audio/x-ape", "ape")),
    mark(0, b"wvpk", row(Class::Audio, "audio/x-wavpack", "wv")),
    mark(0, b"MPCK", row(Class::Audio, "audio/x-musepack", "mpc")),
    mark(0, b"DSD ", row(Class::Audio, "audio/x-dsf", "dsf")),
    mark(0, b"FLV\x01", row(Class::Video, "video/x-flv", "flv")),
    mark(
        0,
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c",
        row(Class::Video, "video/x-ms-asf", "wmv"),
    ),
    mark(0, b"\0\0\x01\xba", row(Class::Video, "video/mpeg", "mpg")),
    mark(0, b"\0\0\x01\xb3", row(Class::Video, "video/mpeg", "mpg")),
    mark(0, b".RMF\0\0\0", row(Class::Video, "application/vnd.rn-realmedia", "rm")),
    mark(0, b"\x1f\x8b\x08", row(Class::Archive, "application/gzip", "gz")),
    mark(0, b"BZh", row(Class::Archive, "application/x-bzip2", "bz2")),
    mark(0, b"\xfd7zXZ\0", row(Class::Archive, "application/x-xz", "xz")),
    mark(0, b"\x28\xb5\x2f\xfd", row(Class::Archive, "application/zstd", "zst")),
    mark(0, b"\x04\x22\x4d\x18", row(Class::Archive, "application/x-lz4", "lz4")),
    mark(0, b"LZIP\x01", row(Class::Archive, "application/x-lzip", "lz")),
    mark(0, b"\x1f\x9d", row(Class::Archive, "application/x-compress", "z")),
    mark(0, b"7z\xbc\xaf\x27\x1c", row(Class::Archive, "application/x-7z-compressed", "7z")),
    mark(0, b"Rar!\x1a\x07", row(Class::Archive, "application/vnd.rar", "rar")),
    mark(0, b"MSCF\0\0\0\0", row(Class::Archive, "application/vnd.ms-cab-compressed", "cab")),
    mark(0, b"xar!", row(Class::Archive, "application/x-xar", "xar")),
    mark(0, b"!<arch>\ndebian-binary", row(Class::Archive, "application/vnd.debian.binary-package", "deb")),
    mark(0, b"!<arch>\n", row(Class::Archive, "application/x-archive", "a")),
    mark(0, b"\xed\xab\xee\xdb", row(Class::Archive, "application/x-rpm", "rpm")),
    mark(0, b"070701", row(Class::Archive, "application/x-cpio", "cpio")),
    mark(0, b"070707", row(Class::Archive, "application/x-cpio", "cpio")),
    mark(0, b"hsqs", row(Class::Archive, "application/vnd.squashfs", "sqsh")),
    mark(257, b"ustar", row(Class::Archive, "application/x-tar", "tar")),
    mark(0, b"\0\x01\0\0\0", row(Class::Font, "font/ttf", "ttf")),
    mark(0, b"OTTO\0", row(Class::Font, "font/otf", "otf")),
    mark(0, b"ttcf\0", row(Class::Font, "font/collection", "ttc")),
    mark(0, b"wOFF", row(Class::Font, "font/woff", "woff")),
    mark(0, b"wOF2", row(Class::Font, "font/woff2", "woff2")),
    mark(0, b"%!PS-AdobeFont", row(Class::Font, "application/x-font-type1", "pfa")),
    mark(0, b"\x7fELF", row(Class::Executable, "application/x-elf", "")),
    mark(0, b"\xcf\xfa\xed\xfe", row(Class::Executable, "application/x-mach-binary", "")),
    mark(0, b"\xce\xfa\xed\xfe", row(Class::Executable, "application/x-mach-binary", "")),
    mark(0, b"\0asm", row(Class::Executable, "application/wasm", "wasm")),
    mark(0, b"dex\n03", row(Class::Executable, "application/vnd.android.dex", "dex")),
    mark(0, b"SQLite format 3\0", row(Class::Data, "application/vnd.sqlite3", "sqlite")),
    mark(0, b"\x89HDF\r\n\x1a\n", row(Class::Data, "application/x-hdf5", "h5")),
    mark(0, b"CDF\x01", row(Class::Data, "application/x-netcdf", "nc")),
    mark(0, b"CDF\x02", row(Class::Data, "application/x-netcdf", "nc")),
    mark(0, b"PAR1", row(Class::Data, "application/vnd.apache.parquet", "parquet")),
    mark(0, b"ARROW1\0\0", row(Class::Data, "application/vnd.apache.arrow.file", "arrow")),
    mark(0, b"Obj\x01", row(Class::Data, "application/avro", "avro")),
    mark(0, b"\x93NUMPY", row(Class::Data, "application/x-npy", "npy")),
    mark(0, b"SIMPLE  =", row(Class::Data, "application/fits", "fits")),
    mark(0, b"GGUF", row(Class::Data, "application/x-gguf", "gguf")),
    mark(0, b"\xd4\xc3\xb2\xa1", row(Class::Data, "application/vnd.tcpdump.pcap", "pcap")),
    mark(0, b"\x0a\x0d\x0d\x0a", row(Class::Data, "application/x-pcapng", "pcapng")),
    mark(0, b"BLENDER", row(Class::Data, "application/x-blender", "blend")),
    mark(0, b"glTF", row(Class::Data, "model/gltf-binary", "glb")),
    mark(0, b"QFI\xfb", row(Class::Data, "application/x-qemu-disk", "qcow2")),
    mark(0, b"bplist00", row(Class::Data, "application/x-plist", "plist")),
    mark(0, b"\xac\xed\0\x05", row(Class::Data, "application/x-java-serialized-object", "ser")),
];

/// The row of the first mark that `head` has.
pub(super) fn look(head: &[u8]) -> Option<Row> {
    let found = MARKS.iter().find(|mark| head.get(mark.at..).is_some_and(|rest| rest.starts_with(mark.bytes)));
    if let Some(found) = found {
        return Some(found.row);
    }
    two_bytes(head)
}

/// Whether files of `mime` always begin with a mark, so that a file without it is not one.
pub(super) fn has_mark(mime: &str) -> bool {
    // A piece of an MPEG stream has no header of its own.
    mime != "audio/mpeg" && mime != "video/mpeg" && by_mime(mime).is_some()
}

/// The row of a media type.
pub(super) fn by_mime(mime: &str) -> Option<Row> {
    MARKS.iter().map(|mark| mark.row).find(|row| row.mime == mime)
}

/// Formats whose mark is short and needs a second look.
fn two_bytes(head: &[u8]) -> Option<Row> {
    match head {
        // The size of a BMP's second header tells it from a text that begins with "BM".
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, _, _, _, _, 12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0, ..] => {
            Some(row(Class::Image, "image/bmp", "bmp"))
        }
        [0, 0, 1, 0, count, 0, _, _, _, 0, ..] if *count > 0 => {
            Some(row(Class::Image, "image/vnd.microsoft.icon", "ico"))
        }
        [b'M', b'Z', ..] if head.len() > 64 && head.contains(&0) => {
            Some(row(Class::Executable, "application/vnd.microsoft.portable-executable", "exe"))
        }
        // A universal Mach-O counts its few architectures where a Java class has its version, which is 45 or more.
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, count, ..] if *count < 40 => {
            Some(row(Class::Executable, "application/x-mach-binary", ""))
        }
        [0xca, 0xfe, 0xba, 0xbe, ..] => Some(row(Class::Executable, "application/java-vm", "class")),
        // ADTS: twelve set bits, then a layer of zero.
        [0xff, 0xf1 | 0xf9, third, ..] if (third >> 2) & 0xf < 13 => Some(row(Class::Audio, "audio/aac", "aac")),
        // MPEG audio: eleven set bits, a known version, layer II or III (I would be UTF-16's mark), bit rate and sampling rate.
        [0xff, second, third, ..]
            if second & 0xe0 == 0xe0
                && (second >> 3) & 3 != 1
                && matches!((second >> 1) & 3, 1 | 2)
                && !matches!(third >> 4, 0 | 15)
                && (third >> 2) & 3 != 3 =>
        {
            Some(row(Class::Audio, "audio/mpeg", "mp3"))
        }
        // Transport streams repeat 0x47 every 188 bytes.
        [0x47, ..] if head.get(188) == Some(&0x47) && head.get(376) == Some(&0x47) => {
            Some(row(Class::Video, "video/mp2t", "ts"))
        }
        _ => None,
    }
}
