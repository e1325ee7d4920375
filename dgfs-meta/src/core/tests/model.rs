//! Random operations on the core and on a plain model of a namespace; the seed is printed.

use std::collections::BTreeMap;

use super::{Bench, CHUNK, Ino, NewNode, RemoveKind, RenameMode, Status, TreeStat};

/// A tree as one would write it down.
#[derive(Clone, Debug, Default)]
struct Model {
    directories: BTreeMap<Ino, BTreeMap<String, Ino>>,
    sizes: BTreeMap<Ino, u64>,
    parents: BTreeMap<Ino, Ino>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

impl Model {
    fn is_directory(&self, ino: Ino) -> bool {
        self.directories.contains_key(&ino)
    }

    fn is_below(&self, ino: Ino, ancestor: Ino) -> bool {
        let mut at = ino;
        while at != ancestor {
            if at == Ino::ROOT {
                return false;
            }
            at = self.parents[&at];
        }
        true
    }

    fn tree(&self, directory: Ino) -> TreeStat {
        let mut sum = TreeStat::default();
        for ino in self.directories[&directory].values() {
            if let Some(size) = self.sizes.get(ino) {
                sum.files += 1;
                sum.bytes += size;
            } else {
                let below = self.tree(*ino);
                sum.dirs += 1 + below.dirs;
                sum.files += below.files;
                sum.bytes += below.bytes;
            }
        }
        sum
    }

    fn place(&mut self, at: (Ino, &str), ino: Ino) {
        self.directories.get_mut(&at.0).unwrap().insert(at.1.to_owned(), ino);
        self.parents.insert(ino, at.0);
    }

    fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), mode: RenameMode) -> Result<(), Status> {
        let source = *self.directories[&from.0].get(from.1).ok_or(Status::NotFound)?;
        let target = self.directories[&to.0].get(to.1).copied();
        if self.is_directory(source) && self.is_below(to.0, source) {
            return Err(Status::Invalid);
        }
        match (target, mode) {
            (None, RenameMode::Exchange) => return Err(Status::NotFound),
            (Some(_), RenameMode::NoReplace) => return Err(Status::Exists),
            (Some(target), RenameMode::Exchange) => {
                if self.is_directory(target) && self.is_below(from.0, target) {
                    return Err(Status::Invalid);
                }
                self.place(from, target);
                self.place(to, source);
                return Ok(());
            }
            (Some(target), RenameMode::Replace) if target == source => return Ok(()),
            (Some(target), RenameMode::Replace) => {
                match (self.is_directory(source), self.is_directory(target)) {
                    (true, false) => return Err(Status::NotDirectory),
                    (false, true) => return Err(Status::IsDirectory),
                    (true, true) if !self.directories[&target].is_empty() => return Err(Status::NotEmpty),
                    _ => {}
                }
                self.directories.remove(&target);
                self.sizes.remove(&target);
            }
            (None, _) => {}
        }
        self.directories.get_mut(&from.0).unwrap().remove(from.1);
        self.place(to, source);
        Ok(())
    }
}

fn make(bench: &mut Bench, model: &mut Model, at: (Ino, &str), node: NewNode) {
    let made = bench.make(at.0, at.1, node.clone());
    if model.directories[&at.0].contains_key(at.1) {
        assert_eq!(made.map(|attr| attr.ino), Err(Status::Exists));
        return;
    }
    let ino = made.unwrap().ino;
    model.place(at, ino);
    if node == NewNode::Directory {
        model.directories.insert(ino, BTreeMap::new());
    } else {
        model.sizes.insert(ino, 0);
    }
}

fn remove(bench: &mut Bench, model: &mut Model, at: (Ino, &str), kind: RemoveKind) {
    let found = model.directories[&at.0].get(at.1).copied();
    let expected = match (found, kind) {
        (None, _) => Err(Status::NotFound),
        (Some(ino), RemoveKind::Unlink) if model.is_directory(ino) => Err(Status::IsDirectory),
        (Some(ino), RemoveKind::Rmdir) if !model.is_directory(ino) => Err(Status::NotDirectory),
        (Some(ino), RemoveKind::Rmdir) if !model.directories[&ino].is_empty() => Err(Status::NotEmpty),
        (Some(_), _) => Ok(()),
    };
    assert_eq!(bench.remove(at.0, at.1, kind), expected);
    if expected.is_ok() {
        let ino = model.directories.get_mut(&at.0).unwrap().remove(at.1).unwrap();
        model.directories.remove(&ino);
        model.sizes.remove(&ino);
    }
}

fn write(bench: &mut Bench, model: &mut Model, random: &mut Random, serial: u64) {
    let files: Vec<Ino> = model.sizes.keys().copied().collect();
    if let Some(ino) = files.get(random.below(files.len().max(1) as u64) as usize) {
        let index = random.below(40);
        bench.write_chunk(*ino, index, serial).unwrap();
        let size = model.sizes.get_mut(ino).unwrap();
        *size = (*size).max(index * CHUNK + 100);
    }
}

fn run(seed: u64, memory_bytes: usize, steps: u64) {
    println!("seed {seed}, memory {memory_bytes}");
    let mut random = Random(seed);
    let mut bench = Bench::new(memory_bytes);
    let mut model = Model::default();
    model.directories.insert(Ino::ROOT, BTreeMap::new());
    for step in 0..steps {
        let directories: Vec<Ino> = model.directories.keys().copied().collect();
        let mut pick = || directories[random.below(directories.len() as u64) as usize];
        let (a, b) = (pick(), pick());
        let (x, y) = (format!("n{}", random.below(12)), format!("n{}", random.below(12)));
        match random.below(10) {
            0 => make(&mut bench, &mut model, (a, &x), NewNode::Directory),
            1 | 2 => make(&mut bench, &mut model, (a, &x), NewNode::File),
            3 => remove(&mut bench, &mut model, (a, &x), RemoveKind::Unlink),
            4 => remove(&mut bench, &mut model, (a, &x), RemoveKind::Rmdir),
            5..=7 => {
                let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][random.below(3) as usize];
                let expected = model.rename((a, &x), (b, &y), mode);
                let got = bench.rename((a, &x), (b, &y), mode);
                assert_eq!(got, expected, "step {step}: {a}/{x} to {b}/{y}, {mode:?}");
            }
            _ => write(&mut bench, &mut model, &mut random, 1000 + step),
        }
        if step % 50 == 0 {
            check(&mut bench, &model);
        }
    }
    check(&mut bench, &model);
}

fn check(bench: &mut Bench, model: &Model) {
    for (directory, entries) in &model.directories {
        let mut listed = bench.list(*directory, 5);
        listed.sort();
        let expected: Vec<(String, Ino)> = entries.iter().map(|(name, ino)| (name.clone(), *ino)).collect();
        assert_eq!(listed, expected);
        assert_eq!(bench.tree(*directory), model.tree(*directory));
        let subdirectories = entries.values().filter(|ino| model.is_directory(**ino)).count();
        assert_eq!(bench.attr(*directory).unwrap().nlink as usize, 2 + subdirectories);
    }
    assert_eq!(bench.core.counters.inodes as usize, model.directories.len() + model.sizes.len());
}

#[test]
fn random_namespaces_equal_their_model_with_all_rows_in_memory() {
    for seed in 1..6 {
        run(seed, 64 << 20, 1500);
    }
}

#[test]
fn random_namespaces_equal_their_model_when_rows_come_and_go() {
    for seed in 6..10 {
        run(seed, 3000, 1200);
    }
}
