//! The objects of a PDF file and its tree of pages.
//!
//! Never uses the cross-reference table: every `N G obj` in the file is an object, and of several with one number the
//! last counts, as updates are appended. Objects in object streams are found after them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::filters;
use super::objects::{Dict, Lexer, Object, is_gap};

/// Objects of a file.
const OBJECTS_MAX: usize = 500_000;
/// Unpacked bytes of all streams together.
const UNPACKED_BYTES_MAX: usize = 128 << 20;
/// Unpacked bytes of one stream.
const STREAM_BYTES_MAX: usize = 32 << 20;
/// Bytes of objects that are parsed, those that are parsed again counted again: an object that never ends must not be
/// read once for each reference to it.
const PARSED_BYTES_MAX: usize = 256 << 20;
/// Pages that are counted.
const PAGES_MAX: usize = 50_000;
/// Levels of the tree of pages.
const TREE_DEPTH_MAX: usize = 32;
/// References that lead to references.
const HOPS_MAX: usize = 16;

/// Where an object is.
#[derive(Clone, Copy)]
enum Place {
    /// Behind its `obj`.
    File(usize),
    /// In the unpacked object stream of this index, at this offset.
    Packed(usize, usize),
}

/// A page with what it has inherited.
pub(super) struct Page {
    pub(super) dict: Dict,
    pub(super) resources: Rc<Dict>,
}

/// An open file.
pub(super) struct File<'a> {
    bytes: &'a [u8],
    places: BTreeMap<u32, Place>,
    packed: Vec<Vec<u8>>,
    trailer: Dict,
    bytes_left: usize,
    parse_left: Cell<usize>,
}

impl<'a> File<'a> {
    pub(super) fn open(bytes: &'a [u8]) -> Self {
        let mut file = Self {
            bytes,
            places: BTreeMap::new(),
            packed: Vec::new(),
            trailer: Dict::new(),
            bytes_left: UNPACKED_BYTES_MAX,
            parse_left: Cell::new(PARSED_BYTES_MAX),
        };
        file.find_objects();
        file.find_trailers();
        file.open_streams();
        file
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.trailer.contains_key("Encrypt")
    }

    /// Whether the bound of unpacked bytes is reached.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes_left == 0 || self.parse_left.get() == 0
    }

    fn find_objects(&mut self) {
        let mut from = 0;
        while let Some(at) = find(self.bytes, b"obj", from) {
            from = at + 3;
            if self.places.len() >= OBJECTS_MAX {
                return;
            }
            if let Some(number) = number_before(self.bytes, at) {
                self.places.insert(number, Place::File(from));
            }
        }
    }

    /// Each `trailer` dictionary; what a later one says replaces what an earlier said.
    fn find_trailers(&mut self) {
        let mut from = 0;
        while let Some(at) = find(self.bytes, b"trailer", from) {
            from = at + 7;
            let rest = self.bytes.get(from..).unwrap_or_default();
            if !rest.get(..64).unwrap_or(rest).trim_ascii_start().starts_with(b"<<") {
                continue;
            }
            let mut lexer = Lexer::new(self.bytes, from);
            if let Some(Object::Dict(dict)) = lexer.next() {
                self.trailer.extend(dict);
            }
            from = from.max(lexer.at());
        }
    }

    /// Object streams hold further objects, and cross-reference streams are trailers too.
    fn open_streams(&mut self) {
        let numbers: Vec<(u32, usize)> = self
            .places
            .iter()
            .filter_map(|(number, place)| if let Place::File(at) = place { Some((*number, *at)) } else { None })
            .collect();
        for (_, at) in numbers {
            // The type stands near the beginning of the dictionary; most objects are spared the reading.
            let head = self.bytes.get(at..).unwrap_or_default();
            let head = head.get(..400).unwrap_or(head);
            if find(head, b"/ObjStm", 0).is_none() && find(head, b"/XRef", 0).is_none() {
                continue;
            }
            let Some(Object::Dict(dict)) = self.parse(self.bytes, at) else { continue };
            match dict.get("Type").and_then(Object::name) {
                Some("XRef") => {
                    for key in ["Root", "Info", "Encrypt"] {
                        if let Some(value) = dict.get(key) {
                            self.trailer.insert(key.to_owned(), value.clone());
                        }
                    }
                }
                Some("ObjStm") => self.open_object_stream(&dict, at),
                Some(_) | None => {}
            }
        }
    }

    fn open_object_stream(&mut self, dict: &Dict, at: usize) {
        let (Some(count), Some(first)) =
            (dict.get("N").and_then(Object::index), dict.get("First").and_then(Object::index))
        else {
            return;
        };
        let Some(content) = self.stream_at(dict, at) else { return };
        let index = self.packed.len();
        let mut lexer = Lexer::new(&content, 0);
        for _ in 0..count.min(OBJECTS_MAX) {
            let (Some(number), Some(offset)) = (lexer.next(), lexer.next()) else { break };
            let (Some(number), Some(offset)) = (number.index(), offset.index()) else { break };
            let Ok(number) = u32::try_from(number) else { break };
            if self.places.len() < OBJECTS_MAX {
                // An object outside of a stream is newer where a file was updated by a simple writer.
                self.places.entry(number).or_insert(Place::Packed(index, first.saturating_add(offset)));
            }
        }
        self.packed.push(content);
    }

    /// What a reference stands for, or the object itself.
    pub(super) fn resolve(&self, object: &Object) -> Object {
        let mut object = object.clone();
        for _ in 0..HOPS_MAX {
            let Some(number) = object.reference() else { return object };
            object = self.object(number);
        }
        Object::Null
    }

    fn object(&self, number: u32) -> Object {
        let parsed = match self.places.get(&number) {
            Some(Place::File(at)) => self.parse(self.bytes, *at),
            Some(Place::Packed(index, at)) => {
                self.packed.get(*index).and_then(|content| self.parse(content, (*at).min(content.len())))
            }
            None => None,
        };
        parsed.unwrap_or(Object::Null)
    }

    fn parse(&self, bytes: &[u8], at: usize) -> Option<Object> {
        let left = self.parse_left.get();
        // What is left bounds this object too.
        let end = at.saturating_add(left).min(bytes.len());
        let mut lexer = Lexer::new(bytes.get(..end)?, at.min(end));
        let object = lexer.next();
        self.parse_left.set(left.saturating_sub(lexer.at().saturating_sub(at)));
        object
    }

    /// A dictionary, resolved.
    pub(super) fn dict(&self, object: Option<&Object>) -> Option<Dict> {
        if let Object::Dict(dict) = self.resolve(object?) { Some(dict) } else { None }
    }

    /// The unpacked content of the stream that `object` refers to.
    pub(super) fn stream(&mut self, object: &Object) -> Option<Vec<u8>> {
        let number = object.reference()?;
        let Some(Place::File(at)) = self.places.get(&number).copied() else { return None };
        let dict = self.dict(Some(object))?;
        self.stream_at(&dict, at)
    }

    fn stream_at(&mut self, dict: &Dict, at: usize) -> Option<Vec<u8>> {
        let mut lexer = Lexer::new(self.bytes, at);
        lexer.next()?;
        let rest = self.bytes.get(lexer.at()..)?;
        let gaps = rest.iter().take_while(|byte| is_gap(**byte)).count();
        let rest = rest.get(gaps..)?.strip_prefix(b"stream")?;
        let rest = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")).unwrap_or(rest);
        let said = dict.get("Length").map(|len| self.resolve(len)).and_then(|len| len.index());
        // A wrong length is common in broken files: the stream ends where it says so.
        let is_right = said
            .is_some_and(|len| rest.get(len..).is_some_and(|tail| tail.trim_ascii_start().starts_with(b"endstream")));
        let len = if is_right { said? } else { find(rest, b"endstream", 0).unwrap_or(rest.len()) };
        let raw = rest.get(..len)?;
        let bytes_max = STREAM_BYTES_MAX.min(self.bytes_left);
        let content = filters::unpacked(raw, &self.filters(dict), bytes_max)?;
        self.bytes_left = self.bytes_left.saturating_sub(content.len());
        Some(content)
    }

    fn filters(&self, dict: &Dict) -> Vec<filters::Filter> {
        let list = |key: &str| match dict.get(key).map(|value| self.resolve(value)) {
            Some(Object::List(list)) => list,
            Some(Object::Null) | None => Vec::new(),
            Some(one) => vec![one],
        };
        let parameters = list("DecodeParms");
        let names = list("Filter");
        let names = names.iter().map(|name| self.resolve(name).name().unwrap_or_default().to_owned());
        names
            .enumerate()
            .map(|(at, name)| {
                let parameters = self.dict(parameters.get(at)).unwrap_or_default();
                let number = |key: &str, default| parameters.get(key).and_then(Object::index).unwrap_or(default);
                filters::Filter { name, predictor: number("Predictor", 1), columns: number("Columns", 1) }
            })
            .collect()
    }

    /// The dictionary of title, author and dates.
    pub(super) fn info(&self) -> Option<Dict> {
        let info = self.dict(self.trailer.get("Info"))?;
        Some(info.into_iter().map(|(key, value)| (key, self.resolve(&value))).collect())
    }

    /// All pages in their order; where the tree is broken, in the order of their numbers.
    pub(super) fn pages(&self) -> Vec<Page> {
        let mut pages = Vec::new();
        let root = self.dict(self.trailer.get("Root"));
        if let Some(tree) = root.and_then(|root| root.get("Pages").cloned()) {
            self.walk(
                &tree,
                &Rc::new(Dict::new()),
                &mut Walk { pages: &mut pages, seen: BTreeSet::new() },
                TREE_DEPTH_MAX,
            );
        }
        if pages.is_empty() {
            for number in self.places.keys().take(OBJECTS_MAX) {
                let Object::Dict(dict) = self.object(*number) else { continue };
                if dict.get("Type").and_then(Object::name) == Some("Page") && pages.len() < PAGES_MAX {
                    let resources = Rc::new(self.dict(dict.get("Resources")).unwrap_or_default());
                    pages.push(Page { dict, resources });
                }
            }
        }
        pages
    }

    fn walk(&self, node: &Object, inherited: &Rc<Dict>, walk: &mut Walk<'_>, depth_left: usize) {
        // A tree that contains itself would never end.
        let is_known = node.reference().is_some_and(|number| !walk.seen.insert(number));
        if is_known || depth_left == 0 || walk.pages.len() >= PAGES_MAX {
            return;
        }
        let Some(dict) = self.dict(Some(node)) else { return };
        let resources = self.dict(dict.get("Resources")).map_or_else(|| Rc::clone(inherited), Rc::new);
        match dict.get("Kids").map(|kids| self.resolve(kids)) {
            Some(Object::List(kids)) => {
                for kid in &kids {
                    self.walk(kid, &resources, walk, depth_left - 1);
                }
            }
            _ => walk.pages.push(Page { dict, resources }),
        }
    }
}

struct Walk<'a> {
    pages: &'a mut Vec<Page>,
    seen: BTreeSet<u32>,
}

/// The number of an object whose `obj` is at `at`: `12 0 obj`.
fn number_before(bytes: &[u8], at: usize) -> Option<u32> {
    let head = bytes.get(at.saturating_sub(24)..at)?.trim_ascii_end();
    let (head, generation) = digits_at_end(head)?;
    let head = Some(head).filter(|head| head.last().is_some_and(|byte| is_gap(*byte)))?;
    let (_, number) = digits_at_end(head.trim_ascii_end())?;
    let is_id = generation <= 65_535;
    if is_id { u32::try_from(number).ok() } else { None }
}

fn digits_at_end(text: &[u8]) -> Option<(&[u8], u64)> {
    let len = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count().min(10);
    let (head, digits) = text.split_at_checked(text.len() - len)?;
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((head, number))
}

/// Where `word` is next, from `from` on.
pub(super) fn find(bytes: &[u8], word: &[u8], from: usize) -> Option<usize> {
    let first = *word.first()?;
    let mut at = from;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| *byte == first)?;
        if bytes.get(at..)?.starts_with(word) {
            return Some(at);
        }
        at += 1;
    }
}
