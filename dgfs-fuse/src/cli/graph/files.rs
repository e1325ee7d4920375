//! The files that a command names: words, and lines of the standard input.
//!
//! Never keeps the whole list of the standard input: it is read as far as it is needed.

use std::ffi::OsString;
use std::io::{BufRead, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use crate::cli::Failure;
use crate::cli::args::graph::tag::Files;
use crate::cli::graph::refused;

/// Bytes of a path in the standard input: Linux takes 4,096 in a call; more is no list of paths.
const PATH_BYTES_MAX: u64 = 64 << 10;

/// The paths of `files`, first those of the command line.
pub(crate) fn paths<'a>(
    files: &'a Files,
    stdin: impl BufRead + 'a,
) -> impl Iterator<Item = Result<PathBuf, Failure>> + 'a {
    let words = files.files.iter().cloned().map(Ok);
    let separator = if files.null { 0 } else { b'\n' };
    let read = Lines { from: stdin, separator, ended: !files.stdin };
    words.chain(read)
}

struct Lines<R> {
    from: R,
    separator: u8,
    ended: bool,
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<PathBuf, Failure>;

    /// The next path; empty lines are passed over. After an error nothing more comes.
    fn next(&mut self) -> Option<Self::Item> {
        while !self.ended {
            let mut bytes = Vec::new();
            let read = self.from.by_ref().take(PATH_BYTES_MAX).read_until(self.separator, &mut bytes);
            match read {
                Ok(0) => break,
                Ok(_) if bytes.len() as u64 == PATH_BYTES_MAX => {
                    self.ended = true;
                    let sentence =
                        format!("the standard input has a path of more than {PATH_BYTES_MAX} bytes (-0 reads NULs)");
                    return Some(Err(refused(sentence)));
                }
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(Err(refused(format!("read the standard input: {error}"))));
                }
            }
            if bytes.last() == Some(&self.separator) {
                bytes.pop();
            }
            if !bytes.is_empty() {
                return Some(Ok(PathBuf::from(OsString::from_vec(bytes))));
            }
        }
        self.ended = true;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::PathBuf;

    use super::paths;
    use crate::cli::args::graph::tag::Files;

    fn read(null: bool, text: &[u8]) -> Vec<Result<PathBuf, String>> {
        let files = Files { files: vec!["first".into()], stdin: true, null, no_dereference: false };
        paths(&files, Cursor::new(text)).map(|path| path.map_err(|failure| failure.sentence)).collect()
    }

    #[test]
    fn words_come_first_then_lines_or_what_ends_with_nul() {
        let all = |names: &[&str]| names.iter().map(|name| Ok(PathBuf::from(name))).collect::<Vec<_>>();
        assert_eq!(read(false, b"a b\n\nc"), all(&["first", "a b", "c"]));
        assert_eq!(read(true, b"a\nb\0c\0"), all(&["first", "a\nb", "c"]));
        let files = Files { files: vec!["only".into()], ..Files::default() };
        assert_eq!(paths(&files, Cursor::new(b"never read")).count(), 1);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let long = vec![b'x'; 1 << 20];
        let paths = read(false, &long);
        assert_eq!(paths.len(), 2);
        assert!(paths[1].as_ref().unwrap_err().contains("more than"));
    }
}
