//! The Finder's tags: an attribute of each file, which copies over Samba and netatalk carry along.
//!
//! Never changes the attribute. A value is a binary property list of texts, `name` or `name\ncolour`; colours are left out.

use std::path::Path;

use super::bplist::texts;
use super::walk::{Found, Visitor, walk};
use super::{FileItem, Item, Take};
use crate::cli::Failure;
use crate::cli::graph::xattr;

/// Where the attribute is found: as netatalk and `cp` write it, as it is on macOS, and as Samba keeps streams (which it ends with
/// a NUL).
const NAMES: [(&str, Ending); 3] = [
    ("user.com.apple.metadata:_kMDItemUserTags", Ending::Plain),
    ("com.apple.metadata:_kMDItemUserTags", Ending::Plain),
    ("user.DosStream.com.apple.metadata:_kMDItemUserTags:$DATA", Ending::Nul),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Plain,
    Nul,
}

/// Reads the tags of everything below `top`.
pub(super) fn read(top: &Path, take: Take<'_>) -> Result<(), Failure> {
    walk(top, &mut Reader { take })
}

struct Reader<'a> {
    take: Take<'a>,
}

impl Visitor for Reader<'_> {
    fn found(&mut self, found: &Found<'_>) -> Result<(), Failure> {
        for (name, ending) in NAMES {
            let value = match xattr::get(found.path, name) {
                Ok(Some(value)) => value,
                Ok(None) => continue,
                // A name space that this system does not have.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL)) => continue,
                Err(error) => return (self.take)(Item::Problem(format!("{}: {error}", found.path.display()))),
            };
            return (self.take)(item(found.below, &value, ending));
        }
        Ok(())
    }

    fn unread(&mut self, sentence: String) -> Result<(), Failure> {
        (self.take)(Item::Problem(sentence))
    }
}

fn item(path: &Path, value: &[u8], ending: Ending) -> Item {
    let value = match ending {
        Ending::Plain => value,
        Ending::Nul => value.strip_suffix(&[0]).unwrap_or(value),
    };
    match texts(value) {
        Ok(texts) => {
            let name = |text: &String| text.split('\n').next().unwrap_or_default().trim().to_owned();
            let tags = texts.iter().map(name).filter(|name| !name.is_empty()).collect();
            Item::File(FileItem { path: path.to_owned(), tags, ..FileItem::default() })
        }
        Err(why) => Item::Problem(format!("{}: the Finder's tags are {why}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::bplist::testing::list;
    use super::{Ending, item};
    use super::{FileItem, Item};

    #[test]
    fn names_are_taken_and_colours_left() {
        let value = list(&["Red\n6", "Urlaub am Meer\n0", " ", "Plain"]);
        let tags = vec!["Red".to_owned(), "Urlaub am Meer".to_owned(), "Plain".to_owned()];
        let expected = Item::File(FileItem { path: "a".into(), tags, ..FileItem::default() });
        assert_eq!(item(Path::new("a"), &value, Ending::Plain), expected);
        let stream = [&value[..], &[0]].concat();
        assert_eq!(item(Path::new("a"), &stream, Ending::Nul), expected);
        assert!(matches!(item(Path::new("a"), b"x", Ending::Plain), Item::Problem(why) if why.starts_with("a: ")));
    }
}
