//! The text that a page shows.
//!
//! Never lays a page out: text comes in the order of the content, a line ends where the next text stands lower, and a gap
//! of some width is a space. Forms within forms are read to a depth.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::file::{File, Page};
use super::fonts::Font;
use super::objects::{Dict, Lexer, Object};
use crate::text::{PROSE_BYTES_MAX, Prose};

/// Forms within forms.
const FORM_DEPTH_MAX: usize = 4;
/// Operands before an operator that are kept.
const OPERANDS_MAX: usize = 1000;
/// Operators of a document.
const OPERATORS_MAX: usize = 5_000_000;
/// Fonts of a document that are kept.
const FONTS_MAX: usize = 1000;
/// A move to the left of this many thousandths of a letter's height is a space; kerning is less.
const SPACE_MOVE: f64 = -180.0;

/// Reads the pages of one document.
pub(super) struct Reader<'a, 'b> {
    file: &'a mut File<'b>,
    operators_left: usize,
    /// By the numbers of their objects: pages share them.
    fonts: BTreeMap<u32, Rc<Font>>,
}

/// What the operators have set.
#[derive(Default)]
struct State {
    font: Rc<Font>,
    /// By their names in the content at hand.
    fonts: BTreeMap<String, Rc<Font>>,
    /// Height of the line at hand, in the units of the text.
    line: f64,
    /// Distance to the next line.
    leading: f64,
}

impl<'a, 'b> Reader<'a, 'b> {
    pub(super) fn new(file: &'a mut File<'b>) -> Self {
        Self { file, operators_left: OPERATORS_MAX, fonts: BTreeMap::new() }
    }

    /// The file, between two pages.
    pub(super) fn file(&mut self) -> &mut File<'b> {
        self.file
    }

    /// Adds the text of a page.
    pub(super) fn read_page(&mut self, page: &Page, prose: &mut Prose) {
        let contents = match page.dict.get("Contents") {
            Some(Object::List(list)) => list.clone(),
            Some(Object::Reference(number)) => match self.file.resolve(&Object::Reference(*number)) {
                Object::List(list) => list,
                _ => vec![Object::Reference(*number)],
            },
            _ => return,
        };
        let mut content = Vec::new();
        for part in contents.iter().take(OPERANDS_MAX) {
            content.extend(self.file.stream(part).unwrap_or_default());
            content.push(b'\n');
        }
        Shown { reader: self, prose }.read(&content, &page.resources, FORM_DEPTH_MAX);
    }
}

/// A page that is being read.
struct Shown<'r, 'a, 'b, 'p> {
    reader: &'r mut Reader<'a, 'b>,
    prose: &'p mut Prose,
}

impl Shown<'_, '_, '_, '_> {
    fn read(&mut self, content: &[u8], resources: &Dict, depth_left: usize) {
        let mut state = State::default();
        let mut lexer = Lexer::new(content, 0);
        let mut operands: Vec<Object> = Vec::new();
        while let Some(object) = lexer.next() {
            let Object::Operator(word) = object else {
                if operands.len() < OPERANDS_MAX {
                    operands.push(object);
                }
                continue;
            };
            if self.reader.operators_left == 0 || self.prose.body.len() >= PROSE_BYTES_MAX {
                return;
            }
            self.reader.operators_left -= 1;
            match word.as_str() {
                "Tf" => state.font = self.font(&operands, resources, &mut state.fonts),
                "Do" if depth_left > 0 => self.form(&operands, resources, depth_left - 1),
                "BI" => skip_picture(&mut lexer, content),
                _ => self.show(&word, &operands, &mut state),
            }
            operands.clear();
        }
    }

    /// The operators of ISO 32000-1, 9.4.
    fn show(&mut self, word: &str, operands: &[Object], state: &mut State) {
        let number = |at: usize| operands.get(at).and_then(Object::number).unwrap_or(0.0);
        match word {
            "Tj" => self.strings(operands, state),
            "'" | "\"" => {
                self.new_line();
                self.strings(operands, state);
            }
            "TJ" => {
                if let Some(Object::List(items)) = operands.first() {
                    self.strings(items, state);
                }
            }
            "Td" | "TD" => {
                let down = number(1);
                if word == "TD" {
                    state.leading = -down;
                }
                self.moved(down, state);
            }
            "TL" => state.leading = number(0),
            "T*" => {
                state.line -= state.leading;
                self.new_line();
            }
            "Tm" => {
                let line = number(5);
                let by = line - state.line;
                state.line = line;
                self.moved_by(by);
            }
            "ET" => self.space(),
            _ => {}
        }
    }

    fn moved(&mut self, down: f64, state: &mut State) {
        state.line += down;
        self.moved_by(down);
    }

    fn moved_by(&mut self, by: f64) {
        // Less than this is a raised letter, not another line.
        const LINE_MIN: f64 = 0.5;
        if by.abs() > LINE_MIN { self.new_line() } else { self.space() }
    }

    /// A line that ends with a hyphen goes on in the next.
    fn new_line(&mut self) {
        let body = &mut self.prose.body;
        let is_split = body.ends_with('-') && body.trim_end_matches('-').ends_with(char::is_alphabetic);
        if is_split {
            body.pop();
        } else if !body.is_empty() && !body.ends_with(['\n', ' ']) {
            self.prose.push("\n");
        }
    }

    fn space(&mut self) {
        if !self.prose.body.is_empty() && !self.prose.body.ends_with([' ', '\n']) {
            self.prose.push(" ");
        }
    }

    fn strings(&mut self, items: &[Object], state: &State) {
        for item in items {
            match item {
                Object::String(bytes) => {
                    self.prose.push(&state.font.decode(bytes));
                }
                Object::Number(by) if *by < SPACE_MOVE => self.space(),
                _ => {}
            }
        }
    }

    fn font(&mut self, operands: &[Object], resources: &Dict, known: &mut BTreeMap<String, Rc<Font>>) -> Rc<Font> {
        let Some(name) = operands.first().and_then(Object::name) else { return Rc::default() };
        if let Some(font) = known.get(name) {
            return Rc::clone(font);
        }
        let reader = &mut *self.reader;
        let fonts = reader.file.dict(resources.get("Font")).unwrap_or_default();
        let Some(object) = fonts.get(name) else { return Rc::default() };
        let kept = object.reference().and_then(|number| reader.fonts.get(&number));
        let font = match kept {
            Some(font) => Rc::clone(font),
            None => {
                let dict = reader.file.dict(Some(object)).unwrap_or_default();
                Rc::new(Font::of(reader.file, &dict))
            }
        };
        if let Some(number) = object.reference()
            && reader.fonts.len() < FONTS_MAX
        {
            reader.fonts.insert(number, Rc::clone(&font));
        }
        if known.len() < FONTS_MAX {
            known.insert(name.to_owned(), Rc::clone(&font));
        }
        font
    }

    fn form(&mut self, operands: &[Object], resources: &Dict, depth_left: usize) {
        let Some(name) = operands.first().and_then(Object::name) else { return };
        let forms = self.reader.file.dict(resources.get("XObject")).unwrap_or_default();
        let Some(form) = forms.get(name).cloned() else { return };
        let Some(dict) = self.reader.file.dict(Some(&form)) else { return };
        if dict.get("Subtype").and_then(Object::name) != Some("Form") {
            return;
        }
        let own = self.reader.file.dict(dict.get("Resources")).unwrap_or_else(|| resources.clone());
        if let Some(content) = self.reader.file.stream(&form) {
            self.read(&content, &own, depth_left);
        }
    }
}

/// Goes on behind a picture in the content: `BI … ID bytes EI`.
fn skip_picture(lexer: &mut Lexer<'_>, content: &[u8]) {
    let rest = content.get(lexer.at()..).unwrap_or_default();
    let end = super::file::find(rest, b"\nEI", 0).or_else(|| super::file::find(rest, b" EI", 0));
    lexer.skip(end.map_or(rest.len(), |at| at + 3));
}
