//! Makes one tree of the inodes and names that are left.
//!
//! Never invents a name but those in `lost+found`. Always: afterwards every name leads to an inode, every inode has a name
//! (or is an orphan), and counts are what they count.

use std::collections::{BTreeMap, BTreeSet};

use dgfs_proto::attr::{Attr, FileKind, TreeStat};
use dgfs_proto::ids::Ino;
use dgfs_proto::name::Name;

use crate::engine::{RowKey, Table};
use crate::rows::{Counters, DentryRow, InodeRow, Link, Row, key};

/// Rows by key.
pub(crate) type Rows = BTreeMap<RowKey, Row>;

/// Names that are listed one by one; more are counted.
const NAMED_MAX: usize = 100;

/// Mends the rows of the namespace and counts anew.
pub(crate) fn mend(rows: &mut Rows, counters: &mut Counters, hash: impl Fn(&Name) -> u64, lost: &mut Vec<String>) {
    let mut tree = Tree::read(rows);
    tree.ensure_root();
    tree.drop_names(lost);
    tree.attach_nameless(counters, hash, lost);
    tree.count(counters);
    tree.write(rows);
    // What belongs to inodes that are gone.
    rows.retain(|key, _| owner(key).is_none_or(|ino| tree.inodes.contains_key(&ino)));
}

fn owner(key: &RowKey) -> Option<Ino> {
    match key.table {
        Table::Inline | Table::Xattr => Ino::new(key.sort),
        Table::Chunks => Ino::new(key.partition),
        _ => None,
    }
}

#[derive(Default)]
struct Tree {
    inodes: BTreeMap<Ino, InodeRow>,
    /// By directory and hash.
    buckets: BTreeMap<(Ino, u64), Vec<DentryRow>>,
    orphans: BTreeSet<Ino>,
    links: BTreeMap<Ino, Vec<Link>>,
}

impl Tree {
    fn read(rows: &Rows) -> Self {
        let mut tree = Self::default();
        for (key, row) in rows {
            match row {
                Row::Inode(row) => drop(tree.inodes.insert(row.attr.ino, row.clone())),
                Row::Dentries(entries) => {
                    if let Some(parent) = Ino::new(key.partition) {
                        tree.buckets.insert((parent, key.sort), entries.clone());
                    }
                }
                Row::Orphan => tree.orphans.extend(Ino::new(key.sort)),
                _ => {}
            }
        }
        tree
    }

    fn ensure_root(&mut self) {
        let directory = self.inodes.get(&Ino::ROOT).is_some_and(|row| row.attr.kind == FileKind::Directory);
        if !directory {
            self.inodes.insert(Ino::ROOT, new_directory(Ino::ROOT));
        }
    }

    /// Names without an inode or a directory go, and all but one of a directory.
    fn drop_names(&mut self, lost: &mut Vec<String>) {
        let mut gone = 0_usize;
        let mut placed = BTreeSet::from([Ino::ROOT]);
        for ((parent, hash), entries) in &mut self.buckets {
            let in_directory = self.inodes.get(parent).is_some_and(|row| row.attr.kind == FileKind::Directory);
            entries.retain_mut(|entry| {
                let kind = self.inodes.get(&entry.ino).map(|row| row.attr.kind);
                let once = kind != Some(FileKind::Directory) || !placed.contains(&entry.ino);
                if !in_directory || kind.is_none() || !once {
                    if in_directory && gone < NAMED_MAX {
                        lost.push(format!("{} in the directory with the inode number {parent}", entry.name));
                    }
                    gone += 1;
                    return false;
                }
                entry.kind = kind.unwrap_or(entry.kind);
                placed.insert(entry.ino);
                let link = Link { parent: *parent, cookie: hash << 8 | u64::from(entry.slot) };
                self.links.entry(entry.ino).or_default().push(link);
                true
            });
        }
        self.buckets.retain(|_, entries| !entries.is_empty());
        if gone > NAMED_MAX {
            lost.push(format!("{} names more", gone - NAMED_MAX));
        }
    }

    fn attach_nameless(&mut self, counters: &mut Counters, hash: impl Fn(&Name) -> u64, lost: &mut Vec<String>) {
        let reached = self.reached();
        self.orphans.retain(|ino| self.inodes.contains_key(ino) && !reached.contains(ino));
        let nameless: Vec<Ino> =
            self.inodes.keys().copied().filter(|ino| !reached.contains(ino) && !self.orphans.contains(ino)).collect();
        // Those with a name in a directory that is nameless itself come along with it.
        let tops: Vec<Ino> = nameless.iter().copied().filter(|ino| !self.links.contains_key(ino)).collect();
        let rest = nameless.len() - tops.len();
        if tops.is_empty() {
            return;
        }
        let Some(place) = self.lost_and_found(counters, &hash) else { return };
        for ino in &tops {
            if let Ok(name) = Name::new(format!("inode-{ino}").as_bytes()) {
                self.add(place, &name, hash(&name), *ino);
            }
        }
        lost.push(format!(
            "the names of {} files and directories: they are in lost+found now{}",
            tops.len(),
            if rest > 0 { format!(", with {rest} more below them") } else { String::new() }
        ));
    }

    /// What the root leads to.
    fn reached(&self) -> BTreeSet<Ino> {
        let mut children: BTreeMap<Ino, Vec<Ino>> = BTreeMap::new();
        for ((parent, _), entries) in &self.buckets {
            children.entry(*parent).or_default().extend(entries.iter().map(|entry| entry.ino));
        }
        let mut reached = BTreeSet::new();
        let mut next = vec![Ino::ROOT];
        while let Some(ino) = next.pop() {
            if reached.insert(ino) {
                next.extend(children.get(&ino).into_iter().flatten());
            }
        }
        reached
    }

    fn lost_and_found(&mut self, counters: &mut Counters, hash: &impl Fn(&Name) -> u64) -> Option<Ino> {
        for number in 0..16 {
            let text = if number == 0 { "lost+found".to_owned() } else { format!("lost+found-{number}") };
            let name = Name::new(text.as_bytes()).ok()?;
            let at = hash(&name);
            let known = self.buckets.get(&(Ino::ROOT, at)).and_then(|all| all.iter().find(|entry| entry.name == name));
            match known.map(|entry| (entry.ino, entry.kind)) {
                Some((ino, FileKind::Directory)) => return Some(ino),
                Some(_) => {}
                None => {
                    let ino = Ino::new(counters.next_ino)?;
                    counters.next_ino += 1;
                    self.inodes.insert(ino, new_directory(ino));
                    self.add(Ino::ROOT, &name, at, ino);
                    return Some(ino);
                }
            }
        }
        None
    }

    fn add(&mut self, parent: Ino, name: &Name, hash: u64, ino: Ino) {
        let Some(kind) = self.inodes.get(&ino).map(|row| row.attr.kind) else { return };
        let bucket = self.buckets.entry((parent, hash)).or_default();
        let taken: BTreeSet<u8> = bucket.iter().map(|entry| entry.slot).collect();
        let Some(slot) = (0..=u8::MAX).find(|slot| !taken.contains(slot)) else { return };
        bucket.push(DentryRow { slot, name: name.clone(), ino, kind });
        self.links.entry(ino).or_default().push(Link { parent, cookie: hash << 8 | u64::from(slot) });
    }

    /// Links, link counts, recursive statistics, inodes and bytes.
    fn count(&mut self, counters: &mut Counters) {
        let mut below: BTreeMap<Ino, TreeStat> = BTreeMap::new();
        let mut subdirectories: BTreeMap<Ino, u32> = BTreeMap::new();
        let parent_of: BTreeMap<Ino, Ino> =
            self.links.iter().filter_map(|(ino, links)| Some((*ino, links.first()?.parent))).collect();
        for (ino, parent) in &parent_of {
            let Some(row) = self.inodes.get(ino) else { continue };
            let directory = row.attr.kind == FileKind::Directory;
            if directory {
                *subdirectories.entry(*parent).or_default() += 1;
            }
            let mut at = Some(*parent);
            let mut seen = BTreeSet::new();
            while let Some(above) = at.filter(|above| seen.insert(*above)) {
                let stat = below.entry(above).or_default();
                stat.dirs += u64::from(directory);
                stat.files += u64::from(!directory);
                stat.bytes += if directory { 0 } else { row.attr.size };
                at = if above == Ino::ROOT { None } else { parent_of.get(&above).copied() };
            }
        }
        for (ino, row) in &mut self.inodes {
            let links = self.links.get(ino).cloned().unwrap_or_default();
            let directory = row.attr.kind == FileKind::Directory;
            row.attr.nlink = match (directory, self.orphans.contains(ino)) {
                (_, true) => 0,
                (true, false) => 2 + subdirectories.get(ino).copied().unwrap_or(0),
                (false, false) => u32::try_from(links.len()).unwrap_or(u32::MAX),
            };
            row.attr.parent = links.first().map_or(row.attr.parent, |link| link.parent);
            row.links = links;
            row.tree = below.get(ino).copied().unwrap_or_default();
        }
        counters.inodes = self.inodes.len() as u64;
        counters.allocated = self.inodes.values().map(|row| row.attr.allocated).sum();
    }

    fn write(&self, rows: &mut Rows) {
        rows.retain(|key, _| !matches!(key.table, Table::Inode | Table::Dentry | Table::Orphan));
        rows.extend(self.inodes.iter().map(|(ino, row)| (key::inode(*ino), Row::Inode(row.clone()))));
        let dentries = self.buckets.iter();
        rows.extend(dentries.map(|((parent, at), all)| (key::dentry(*parent, *at), Row::Dentries(all.clone()))));
        rows.extend(self.orphans.iter().map(|ino| (key::orphan(*ino), Row::Orphan)));
    }
}

fn new_directory(ino: Ino) -> InodeRow {
    let attr = Attr {
        ino,
        kind: FileKind::Directory,
        mode: if ino == Ino::ROOT { 0o755 } else { 0o700 },
        uid: 0,
        gid: 0,
        nlink: 2,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: Default::default(),
        mtime: Default::default(),
        ctime: Default::default(),
        btime: Default::default(),
        data_version: 1,
        flags: Default::default(),
        parent: Ino::ROOT,
    };
    InodeRow { attr, links: Vec::new(), tree: TreeStat::default(), target: Vec::new() }
}
