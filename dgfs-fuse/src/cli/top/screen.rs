//! A terminal that is written anew each time, and given back as it was.
//!
//! Never scrolls: what does not fit is left out. Always: the size is asked for before each picture, so a resize needs no signal.

use std::io::{self, Write as _};
use std::mem::MaybeUninit;

/// Another page of the terminal, no cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first column of the first line.
const HOME: &str = "\x1b[H";
/// Clears the rest of the line, or of the page.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";
/// Where the terminal does not tell its size.
const SIZE_DEFAULT: (usize, usize) = (80, 24);

/// See the module.
pub(crate) struct Screen;

impl Screen {
    /// Takes the terminal.
    pub(crate) fn open() -> Self {
        put(ENTER);
        Self
    }

    /// Shows `lines` in place of what is there.
    pub(crate) fn show(&mut self, lines: &[String]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(picture(lines, size()).as_bytes())?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put(LEAVE);
    }
}

/// A terminal that is gone needs nothing.
fn put(words: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(words.as_bytes()).and_then(|()| out.flush());
}

fn picture(lines: &[String], (columns, rows): (usize, usize)) -> String {
    let mut picture = HOME.to_owned();
    for (at, line) in lines.iter().take(rows).enumerate() {
        if at > 0 {
            picture.push_str("\r\n");
        }
        // Names come from others: nothing in them may move the cursor.
        picture.extend(line.chars().filter(|letter| !letter.is_control()).take(columns));
        picture.push_str(CLEAR_LINE);
    }
    picture.push_str(CLEAR_REST);
    picture
}

fn size() -> (usize, usize) {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: `size` is room for one winsize and outlives the call.
    let status = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr()) };
    // SAFETY: the structure was zeroed, and filled where the call succeeded.
    let size = unsafe { size.assume_init() };
    if status == 0 && size.ws_col > 0 && size.ws_row > 0 {
        (usize::from(size.ws_col), usize::from(size.ws_row))
    } else {
        SIZE_DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::picture;

    #[test]
    fn a_picture_fits_and_carries_no_foreign_commands() {
        let lines = ["abcdef".to_owned(), "x\x1b[2Jy".to_owned(), "left out".to_owned()];
        assert_eq!(picture(&lines, (4, 2)), "\x1b[Habcd\x1b[K\r\nx[2J\x1b[K\x1b[J");
    }
}
