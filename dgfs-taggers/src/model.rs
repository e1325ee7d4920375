//! Taggers that are models: networks in the ONNX format that a user has, run in a worker.
//!
//! Never downloads anything and never trusts the network's file: it is read before the worker is sealed and understood
//! after that. Always: a model that is loaded has been run once on an empty input, so that one whose shapes are not as the
//! task needs them is refused before the first file.
//!
//! Reading order: [`runtime`] (running a network) → [`image_classes`], [`embedding`] with its [`wordpiece`] tokens, [`ocr`].

mod embedding;
mod image_classes;
mod ocr;
mod pixels;
mod runtime;
mod wordpiece;

use std::ffi::OsStr;
use std::path::Path;

use crate::external::model::{ModelConfig, Task, read_files};
use crate::external::{Registration, Wanted};
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError};

use embedding::Embedder;
use image_classes::Classifier;
use ocr::Reader;
pub(crate) use runtime::Threads;

/// Bytes of a line of a list at most: a label, a character or a token.
const LINE_BYTES_MAX: usize = 256;

/// A registered model's files in memory.
pub(crate) struct ModelFiles {
    config: ModelConfig,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// A model that is ready to look at files.
struct ModelTagger {
    name: String,
    version: u32,
    wanted: Wanted,
    does: Does,
}

enum Does {
    ImageClasses(Box<Classifier>),
    TextEmbedding(Box<Embedder>),
    Ocr(Box<Reader>),
}

impl ModelFiles {
    /// Reads what is registered at `registration`; `version` is what the parent found when it started.
    ///
    /// # Errors
    ///
    /// A sentence: which file cannot be read, or that one has changed since.
    pub(crate) fn read(registration: &Path, version: &OsStr) -> Result<Self, String> {
        let config = match Registration::load(registration).map_err(|error| error.to_string())? {
            Registration::Model(config) => config,
            Registration::Program(_) => return Err(format!("{}: no model is registered here", registration.display())),
        };
        if version.to_str() != Some(&config.version.to_string()) {
            return Err("the model or its registration has changed since the start".to_owned());
        }
        let files = read_files(&config)?;
        Ok(Self { config, files })
    }

    /// Makes a tagger of them.
    ///
    /// # Errors
    ///
    /// A sentence: what in which file is not as the task needs it.
    pub(crate) fn open(mut self, threads: &Threads) -> Result<Box<dyn Tagger>, String> {
        let ModelConfig { name, version, wanted, task, .. } = self.config;
        let mut take = |wanted: &str| {
            let at = self.files.iter().position(|(key, _)| *key == wanted);
            at.map(|at| self.files.swap_remove(at).1)
        };
        let model = take("model").unwrap_or_default();
        let does = match task {
            Task::ImageClasses(task) => {
                let labels = lines("labels", &take("labels").unwrap_or_default())?;
                Does::ImageClasses(Box::new(Classifier::open(model, (task, labels), threads)?))
            }
            Task::TextEmbedding(task) => {
                let tokenizer = take("tokenizer").unwrap_or_default();
                Does::TextEmbedding(Box::new(Embedder::open(model, (task, &tokenizer), threads)?))
            }
            Task::Ocr(task) => {
                let detector = take("detector").unwrap_or_default();
                let characters = take("characters").map(|bytes| lines("characters", &bytes)).transpose()?;
                Does::Ocr(Box::new(Reader::open((detector, model), (task, characters), threads)?))
            }
        };
        Ok(Box::new(ModelTagger { name, version, wanted, does }))
    }
}

impl Tagger for ModelTagger {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn wants(&self, kind: &Kind) -> bool {
        self.wanted.has(kind)
    }

    fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        match &self.does {
            Does::ImageClasses(classifier) => classifier.examine(job, kind, out),
            Does::TextEmbedding(embedder) => embedder.examine(job, kind, out),
            Does::Ocr(reader) => reader.examine(job, kind, out),
        }
    }
}

/// The lines of a list in UTF-8. The end of the last one may be missing.
fn lines(key: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("{key}: not UTF-8: {error}"))?;
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(at) = lines.iter().position(|line| line.len() > LINE_BYTES_MAX) {
        return Err(format!("{key}: line {} is longer than {LINE_BYTES_MAX} bytes", at + 1));
    }
    if lines.is_empty() {
        return Err(format!("{key}: expected one on each line, found none"));
    }
    Ok(lines)
}

/// What a network that runs badly on a file is to that file.
fn failed(reason: String) -> TaggerError {
    TaggerError::Malformed { format: "input of the model", reason: crate::findings::one_line(&reason) }
}

/// The place and the value of the largest of some numbers; those that are no number lose.
fn largest(values: &[f32]) -> Option<(usize, f32)> {
    let mut best: Option<(usize, f32)> = None;
    for (at, value) in values.iter().copied().enumerate() {
        if !value.is_nan() && best.is_none_or(|(_, known)| value > known) {
            best = Some((at, value));
        }
    }
    best
}
