//! Queries evaluated the slow way, inode by inode from the truth: what the index must agree with.
//!
//! Never shares code with the index but the language itself.

use std::collections::BTreeSet;

use dgfs_proto::attr::FileKind;
use dgfs_proto::graph::Viewer;
use dgfs_proto::ids::{Ino, TagId};
use dgfs_proto::query::{Atom, Compare, Key, Query, Test, Value};

use crate::truth::Truth;

impl Truth {
    /// Every name that a viewer's question could find an inode by, folded.
    pub(crate) fn carried(&self, ino: Ino, viewer: &Viewer) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut tags: Vec<TagId> = self.tagged.get(&ino).into_iter().flatten().copied().collect();
        let mut seen = BTreeSet::new();
        let mut words: Vec<String> = self.words(ino, viewer);
        loop {
            while let Some(word) = words.pop() {
                let ends = word.match_indices(':').map(|(at, _)| at).chain([word.len()]);
                for above in ends.map(|end| word[..end].to_owned()) {
                    let bearers = self.tags.iter().filter(|(_, facts)| {
                        facts.name.fold() == above || facts.aliases.iter().any(|alias| alias.fold() == above)
                    });
                    // A value is not divided by its colons.
                    if !above.contains('=') || above == word {
                        tags.extend(bearers.map(|(id, _)| *id));
                        names.insert(above);
                    }
                }
            }
            let Some(id) = tags.pop() else { return names };
            let Some(facts) = self.tags.get(&id).filter(|_| seen.insert(id)) else { continue };
            words.push(facts.name.fold());
            words.extend(facts.aliases.iter().map(dgfs_proto::tag::Tag::fold));
            tags.extend(facts.implies.iter().copied());
            tags.extend(facts.merged_into);
            tags.extend(self.tags.iter().filter(|(_, other)| other.merged_into == Some(id)).map(|(id, _)| *id));
        }
    }

    /// Values of attributes, as far as a viewer may read them, and of names.
    fn words(&self, ino: Ino, viewer: &Viewer) -> Vec<String> {
        let mut words = Vec::new();
        for ((of, key), value) in &self.xattrs {
            let value = String::from_utf8_lossy(value).to_lowercase();
            let key = match String::from_utf8_lossy(key).as_ref() {
                _ if *of != ino => continue,
                "user.baloo.rating" => "rating",
                "user.dublincore.creator" => "creator",
                "user.xdg.comment" => "comment",
                other => panic!("{other} is not part of the model"),
            }
            .to_owned();
            words.push(format!("{key}={value}"));
        }
        let vetoes = self.vetoes.get(&ino).cloned().unwrap_or_default();
        words.retain(|word| !vetoes.iter().any(|veto| veto.fold() == *word) && self.grants(ino, viewer, 4));
        let names = self.names.iter().filter(|(_, to)| **to == ino).map(|((_, name), _)| name.to_string());
        words.extend(
            names.filter_map(|name| name.rsplit_once('.').map(|(_, ext)| format!("ext={}", ext.to_lowercase()))),
        );
        words.push(if self.is_dir(ino) { "type=directory" } else { "type=file" }.to_owned());
        words
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.nodes[&ino].kind == FileKind::Directory
    }

    fn grants(&self, ino: Ino, viewer: &Viewer, wanted: u16) -> bool {
        let node = &self.nodes[&ino];
        let shift = if viewer.uid == node.uid {
            6
        } else if viewer.gids.contains(&node.gid) {
            3
        } else {
            0
        };
        viewer.uid == 0 || (node.mode >> shift) & wanted == wanted
    }

    /// May a viewer reach what lies in this directory by a name, and is that below the scope?
    fn admits(&self, scope: Ino, viewer: &Viewer, directory: Ino) -> bool {
        let granted = |ino: Ino, wanted: u16| self.grants(ino, viewer, wanted);
        let (mut at, mut below) = (directory, directory == scope);
        let mut reached = granted(directory, 4) && granted(directory, 1);
        while at != Ino::ROOT {
            let ((parent, _), _) = self.names.iter().find(|(_, to)| **to == at).unwrap();
            at = *parent;
            below |= at == scope;
            reached &= granted(at, 1);
        }
        below && reached
    }

    pub(crate) fn find(&self, scope: Ino, viewer: &Viewer, query: &Query) -> Vec<u64> {
        let only_negated = query.clauses.iter().flat_map(|clause| &clause.atoms).all(|atom| atom.negated);
        let reached: BTreeSet<Ino> = self
            .names
            .iter()
            .filter(|((parent, _), _)| self.admits(scope, viewer, *parent))
            .map(|(_, ino)| *ino)
            .collect();
        let fits = |ino: &Ino| {
            let all = query.clauses.iter().all(|clause| {
                clause.atoms.iter().any(|Atom { negated, test }| self.passes(*ino, test, viewer) != *negated)
            });
            all && !(only_negated && self.is_dir(*ino))
        };
        reached.into_iter().filter(fits).map(Ino::get).collect()
    }

    fn passes(&self, ino: Ino, test: &Test, viewer: &Viewer) -> bool {
        let node = &self.nodes[&ino];
        match test {
            Test::Tag(tag) => self.carried(ino, viewer).contains(&tag.fold()),
            Test::Has(key) => self.values(ino, key, viewer).next().is_some(),
            Test::Compare { key: Key::Size, op: Compare::AtLeast, value: Value::Size(size) } => {
                !self.is_dir(ino) && node.size >= *size
            }
            Test::Compare { key: Key::Mtime, op, value: Value::Time { from, until } } => match op {
                Compare::Less => node.mtime < *from,
                Compare::AtLeast => node.mtime >= *from,
                _ => node.mtime >= *from && node.mtime < *until,
            },
            Test::Compare { key, op: Compare::Equal, value } => {
                let wanted = match value {
                    Value::Number(number) => {
                        return self.values(ino, key, viewer).any(|is| is.parse() == Ok(number.get()));
                    }
                    Value::Text(text) => text.to_lowercase(),
                    other => panic!("{other:?} is not part of the model"),
                };
                self.values(ino, key, viewer).any(|is| is == wanted)
            }
            Test::Range { key, low: Some(Value::Number(low)), high: None } => {
                self.values(ino, key, viewer).filter_map(|is| is.parse::<f64>().ok()).any(|is| is >= low.get())
            }
            Test::Name(glob) => self.names.iter().any(|((_, name), to)| *to == ino && glob.matches(name.as_bytes())),
            Test::Text(_) if !self.grants(ino, viewer, 4) => false,
            Test::Text(words) => {
                let comment = self.xattrs.get(&(ino, b"user.xdg.comment".to_vec())).cloned().unwrap_or_default();
                let creator = self.xattrs.get(&(ino, b"user.dublincore.creator".to_vec())).cloned().unwrap_or_default();
                let text = String::from_utf8([comment, b" ".to_vec(), creator].concat()).unwrap().to_lowercase();
                words.iter().all(|word| text.split(' ').any(|has| has == word.to_lowercase()))
            }
            Test::All => !self.is_dir(ino),
            Test::Untagged => !self.is_dir(ino) && self.tagged.get(&ino).is_none_or(BTreeSet::is_empty),
            Test::File(one) => *one == ino,
            other => panic!("{other:?} is not part of the model"),
        }
    }

    fn values(&self, ino: Ino, key: &Key, viewer: &Viewer) -> impl Iterator<Item = String> {
        let prefix = format!("{}=", key.as_str());
        self.carried(ino, viewer).into_iter().filter_map(move |name| name.strip_prefix(&prefix).map(str::to_owned))
    }
}
