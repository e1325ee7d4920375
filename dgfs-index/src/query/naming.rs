//! What a hit is shown as among the others.
//!
//! Never shows two hits under one name: the base name belongs to the lowest inode that has it, the others are
//! `stem~id.ext`, which names every hit. Nor under a name that the directory has for something else (`@counts`).

use dgfs_proto::ids::Ino;
use dgfs_proto::limits::NAME_BYTES_MAX;
use dgfs_proto::query::entry::{ino_id, parse_id};
use dgfs_proto::query::path::is_view_name;
use dgfs_proto::query::{Atom, Query, Test};

/// Before and from the last dot of a name; a leading dot does not count.
fn split(base: &[u8]) -> (&[u8], &[u8]) {
    match base.iter().rposition(|byte| *byte == b'.') {
        Some(dot) if dot > 0 => base.split_at(dot),
        Some(_) | None => (base, &[]),
    }
}

/// At most `bytes_max` bytes of a name, cut where a character of UTF-8 begins (where it is not UTF-8: anywhere).
fn cut(name: &[u8], bytes_max: usize) -> &[u8] {
    let mut end = name.len().min(bytes_max);
    while end > 0 && name.get(end).is_some_and(|byte| byte & 0xC0 == 0x80) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default()
}

/// `stem~id.ext`.
pub(crate) fn with_id(base: &[u8], ino: Ino) -> Vec<u8> {
    let id = ino_id(ino);
    let (stem, ext) = split(base);
    // An extension as long as a name is none.
    let ext = if ext.len() + id.len() + 2 > NAME_BYTES_MAX { &[] } else { ext };
    let room = NAME_BYTES_MAX.saturating_sub(ext.len() + id.len() + 1);
    let mut name = cut(stem, room).to_vec();
    name.push(b'~');
    name.extend(id.as_bytes());
    name.extend(ext);
    name
}

/// Inodes that a name may mean by an id in it, from the left.
pub(crate) fn ids_in(name: &[u8]) -> impl Iterator<Item = Ino> + '_ {
    let tildes = name.iter().enumerate().filter(|(_, byte)| **byte == b'~').map(|(at, _)| at);
    tildes.filter_map(|at| {
        let rest = name.get(at + 1..)?;
        let end = rest.iter().position(|byte| matches!(byte, b'.' | b'~')).unwrap_or(rest.len());
        let id = std::str::from_utf8(rest.get(..end)?).ok()?;
        parse_id(id)
    })
}

/// Which names a query's directory has for something else than hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Two digits are a month or a day.
    dates: bool,
}

impl Kept {
    pub(crate) fn by(query: &Query) -> Self {
        let last = query.clauses.last().map_or(&[][..], |clause| clause.atoms.as_slice());
        Self { dates: matches!(last, [Atom { test: Test::Date(date), .. }] if date.day().is_none()) }
    }

    /// Is a hit of this name shown with its id?
    pub(crate) fn has(self, name: &[u8]) -> bool {
        let is_date = || self.dates && name.len() == 2 && name.iter().all(u8::is_ascii_digit);
        is_view_name(name) || is_date()
    }
}

/// Is a base name of the form that names another hit?
pub(crate) fn is_taken(name: &[u8], base: impl Fn(Ino) -> Option<Vec<u8>>) -> bool {
    ids_in(name).any(|ino| base(ino).is_some_and(|base| with_id(&base, ino) == name))
}

#[cfg(test)]
mod tests {
    use super::{Kept, ids_in, with_id};
    use dgfs_proto::ids::Ino;
    use dgfs_proto::query::Context;
    use dgfs_proto::query::entry::ino_id;
    use dgfs_proto::query::path::parse_path;

    #[test]
    fn names_of_views_are_kept_everywhere_and_two_digits_below_a_date() {
        for (path, digits) in [("a", false), ("@date/2024", true), ("@date/2024/03", true), ("@date/2024/03/09", false)]
        {
            let kept = Kept::by(&parse_path(path, &Context::default()).unwrap());
            assert_eq!(kept.has(b"11"), digits, "{path}");
            for name in ["@counts", "@refine", "@explain", "@ask"] {
                assert!(kept.has(name.as_bytes()), "{name}");
            }
            assert!(!kept.has(b"@counts~3") && !kept.has(b"111") && !kept.has(b"@other"));
        }
    }

    #[test]
    fn the_id_stands_before_the_extension() {
        let ino = Ino::new(77).unwrap();
        let id = ino_id(ino);
        for (base, shown) in [
            ("a.txt", format!("a~{id}.txt")),
            (".bashrc", format!(".bashrc~{id}")),
            ("a", format!("a~{id}")),
            ("a.tar.gz", format!("a.tar~{id}.gz")),
        ] {
            assert_eq!(with_id(base.as_bytes(), ino), shown.as_bytes());
            assert!(ids_in(shown.as_bytes()).any(|found| found == ino));
        }
    }

    #[test]
    fn a_long_name_is_cut_where_a_character_begins() {
        let ino = Ino::new(u64::MAX).unwrap();
        for base in ["é".repeat(127) + ".", "x".repeat(250) + ".jpeg", "€".repeat(84) + ".gz", ".".repeat(255)] {
            let shown = with_id(base.as_bytes(), ino);
            assert!(shown.len() <= 255 && std::str::from_utf8(&shown).is_ok(), "{base}");
            assert!(ids_in(&shown).any(|found| found == ino), "{base}");
        }
    }
}
