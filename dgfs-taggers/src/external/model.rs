//! The TOML file that registers a model as a tagger.
//!
//! Never opens the model for more than its hash: a worker does. Always: the version is a hash of the registration and of
//! every file that it names, so that whatever changes in one of them, files are looked at again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use xxhash_rust::xxh3::Xxh3;

use super::config::{Wanted, checked_name, limits_of, wanted_of};
use crate::kind::Class;
use crate::sandbox::Limits;

/// Bytes of a model at most: what a message in the format of ONNX can hold.
const MODEL_BYTES_MAX: u64 = (2 << 30) - 1;
/// Bytes of a list of labels, of characters, or of a tokenizer at most: those of the largest vocabularies have 20 MiB.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Bytes read at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Pixels of an input's side.
const SIDE: std::ops::RangeInclusive<u32> = 1..=2048;
/// Tags that one file gets at most.
const TOP_MAX: usize = 32;
/// Tokens of a text: the two that frame it and one word, to more than models of texts are made for.
const TOKENS: std::ops::RangeInclusive<usize> = 3..=8192;

/// Keys that every model's registration may have.
const KEYS: &[&str] = &["name", "kind", "task", "model", "classes", "mimes", "timeout_ms", "memory_bytes"];
const KEYS_OF_CLASSES: &[&str] = &["labels", "size", "mean", "std", "layout", "scores", "tag", "top", "threshold"];
const KEYS_OF_EMBEDDING: &[&str] = &["tokenizer", "tokens", "lowercase"];
const KEYS_OF_OCR: &[&str] = &["detector", "characters", "threshold"];

/// A checked registration of a model.
#[derive(Debug)]
pub(crate) struct ModelConfig {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) wanted: Wanted,
    pub(crate) limits: Limits,
    /// The network, by a path from here.
    pub(crate) model: PathBuf,
    pub(crate) task: Task,
}

/// What a model is for.
#[derive(Debug)]
pub(crate) enum Task {
    /// Says what pictures show.
    ImageClasses(ImageClasses),
    /// Makes a vector of a text.
    TextEmbedding(TextEmbedding),
    /// Reads the text of pictures.
    Ocr(Ocr),
}

/// How a model of image classes is fed and understood.
#[derive(Debug, Clone)]
pub(crate) struct ImageClasses {
    /// One class a line, in the order of the model's output.
    pub(crate) labels: PathBuf,
    /// Width and height of the input in pixels.
    pub(crate) size: [u32; 2],
    /// Of red, green and blue, each from 0 to 1: taken away from a pixel's value.
    pub(crate) mean: [f32; 3],
    /// What the difference is divided by.
    pub(crate) std: [f32; 3],
    pub(crate) layout: Layout,
    pub(crate) scores: Scores,
    /// Put before each label, with a colon, where it is not empty.
    pub(crate) tag: String,
    pub(crate) top: usize,
    /// Least confidence of a tag, 0 to 1.
    pub(crate) threshold: f32,
}

/// How a model of texts is fed.
#[derive(Debug, Clone)]
pub(crate) struct TextEmbedding {
    /// `vocab.txt` or `tokenizer.json` of a WordPiece tokenizer.
    pub(crate) tokenizer: PathBuf,
    /// Of a text, the framing ones included; what comes behind is not read.
    pub(crate) tokens: usize,
    /// `None`: what the tokenizer's file says, else lower case.
    pub(crate) lowercase: Option<bool>,
}

/// How a pair of models reads.
#[derive(Debug, Clone)]
pub(crate) struct Ocr {
    /// The network that finds lines.
    pub(crate) detector: PathBuf,
    /// One character a line; `None`: the model carries them.
    pub(crate) characters: Option<PathBuf>,
    /// Least confidence of a line, 0 to 1.
    pub(crate) threshold: f32,
}

/// The order of an input's dimensions.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    /// Picture, colour, row, column.
    Nchw,
    /// Picture, row, column, colour.
    Nhwc,
}

/// What a model's output is.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scores {
    /// Any numbers: a softmax makes probabilities of them.
    Logits,
    /// Probabilities already.
    Probabilities,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    #[serde(rename = "kind")]
    _kind: String,
    task: String,
    model: PathBuf,
    labels: Option<PathBuf>,
    size: Option<[u32; 2]>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    layout: Option<Layout>,
    scores: Option<Scores>,
    tag: Option<String>,
    top: Option<usize>,
    threshold: Option<f32>,
    tokenizer: Option<PathBuf>,
    tokens: Option<usize>,
    lowercase: Option<bool>,
    detector: Option<PathBuf>,
    characters: Option<PathBuf>,
    #[serde(default)]
    classes: Vec<Class>,
    #[serde(default)]
    mimes: Vec<String>,
    timeout_ms: Option<u64>,
    memory_bytes: Option<u64>,
}

impl ModelConfig {
    /// Of a registration's text; files that it names are looked for in `directory`.
    ///
    /// # Errors
    ///
    /// A sentence: what is wrong and what was expected, or which file cannot be read.
    pub(crate) fn of(text: &str, directory: &Path) -> Result<Self, String> {
        let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
        let raw: Raw = toml::from_str(text).map_err(|error| error.to_string())?;
        let keys = match raw.task.as_str() {
            "image-classes" => KEYS_OF_CLASSES,
            "text-embedding" => KEYS_OF_EMBEDDING,
            "ocr" => KEYS_OF_OCR,
            other => {
                return Err(format!("task `{other}` is not built in; expected image-classes, text-embedding or ocr"));
            }
        };
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str()) && !keys.contains(&key.as_str())) {
            return Err(format!("{key}: the task {} has no such key; it has {}", raw.task, keys.join(", ")));
        }
        let mut config = raw.checked(directory)?;
        let mut hash = Xxh3::new();
        hash.update(text.as_bytes());
        for (key, path, bytes_max) in config.files() {
            hash_file(&mut hash, path, bytes_max).map_err(|error| format!("{key} = {path:?}: {error}"))?;
        }
        // Half of the hash is enough: it tells a handful of versions of one tagger apart, and nobody attacks himself.
        config.version = (hash.digest() >> 32) as u32;
        Ok(config)
    }

    /// The files that it names: key, path, bytes at most.
    fn files(&self) -> Vec<(&'static str, &Path, u64)> {
        let mut files = vec![("model", self.model.as_path(), MODEL_BYTES_MAX)];
        match &self.task {
            Task::ImageClasses(task) => files.push(("labels", &task.labels, LIST_BYTES_MAX)),
            Task::TextEmbedding(task) => files.push(("tokenizer", &task.tokenizer, LIST_BYTES_MAX)),
            Task::Ocr(task) => {
                files.push(("detector", &task.detector, MODEL_BYTES_MAX));
                files.extend(task.characters.as_ref().map(|path| ("characters", path.as_path(), LIST_BYTES_MAX)));
            }
        }
        files
    }
}

impl Raw {
    fn checked(self, directory: &Path) -> Result<ModelConfig, String> {
        checked_name(&self.name)?;
        let place = |path: &PathBuf| directory.join(path);
        let needed = |key: &str, path: &Option<PathBuf>| {
            path.as_ref().map(place).ok_or_else(|| format!("{key}: the task {} needs this file", self.task))
        };
        let threshold = self.threshold.unwrap_or(0.5);
        if !(0.0..=1.0).contains(&threshold) {
            return Err(format!("threshold = {threshold}: expected 0 to 1"));
        }
        let (task, default_classes) = match self.task.as_str() {
            "text-embedding" => {
                let tokens = self.tokens.unwrap_or(256);
                if !TOKENS.contains(&tokens) {
                    return Err(format!("tokens = {tokens}: expected {} to {}", TOKENS.start(), TOKENS.end()));
                }
                let tokenizer = needed("tokenizer", &self.tokenizer)?;
                let task = TextEmbedding { tokenizer, tokens, lowercase: self.lowercase };
                (Task::TextEmbedding(task), vec![Class::Text, Class::Document])
            }
            "ocr" => {
                let detector = needed("detector", &self.detector)?;
                let characters = self.characters.as_ref().map(place);
                (Task::Ocr(Ocr { detector, characters, threshold }), vec![Class::Image])
            }
            _ => {
                let labels = needed("labels", &self.labels)?;
                (Task::ImageClasses(self.image_classes(labels, threshold)?), vec![Class::Image])
            }
        };
        let is_for_default = self.classes.is_empty() && self.mimes.is_empty();
        let classes = if is_for_default { default_classes } else { self.classes };
        Ok(ModelConfig {
            name: self.name,
            version: 0,
            wanted: wanted_of(classes, self.mimes)?,
            limits: limits_of(self.timeout_ms, self.memory_bytes, false)?,
            model: directory.join(&self.model),
            task,
        })
    }

    fn image_classes(&self, labels: PathBuf, threshold: f32) -> Result<ImageClasses, String> {
        let size = self.size.unwrap_or([224, 224]);
        if let Some(side) = size.into_iter().find(|side| !SIDE.contains(side)) {
            return Err(format!("size: {side} pixels; expected {} to {}", SIDE.start(), SIDE.end()));
        }
        let top = self.top.unwrap_or(5);
        if !(1..=TOP_MAX).contains(&top) {
            return Err(format!("top = {top}: expected 1 to {TOP_MAX}"));
        }
        // Those of the pictures of ImageNet, which most models are trained with.
        let mean = self.mean.unwrap_or([0.485, 0.456, 0.406]);
        let std = self.std.unwrap_or([0.229, 0.224, 0.225]);
        if mean.iter().any(|value| !value.is_finite()) || std.iter().any(|value| !value.is_normal()) {
            return Err("mean and std: expected three finite numbers each, those of std not 0".to_owned());
        }
        Ok(ImageClasses {
            labels,
            size,
            mean,
            std,
            layout: self.layout.unwrap_or(Layout::Nchw),
            scores: self.scores.unwrap_or(Scores::Logits),
            tag: self.tag.clone().unwrap_or_default(),
            top,
            threshold,
        })
    }
}

fn hash_file(hash: &mut Xxh3, path: &Path, bytes_max: u64) -> io::Result<()> {
    let mut file = open(path, bytes_max)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut len = 0_u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            // Ends of files count: the same bytes in two files are not the same in one.
            hash.update(&len.to_le_bytes());
            return Ok(());
        }
        len += read as u64;
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

/// A regular file of at most so many bytes; no more are read, even if it grows.
fn open(path: &Path, bytes_max: u64) -> io::Result<impl Read + use<>> {
    // A pipe or a device would keep the start waiting, so opening does not wait.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let attributes = file.metadata()?;
    if !attributes.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    if attributes.len() > bytes_max {
        return Err(io::Error::other(format!("{} bytes, of at most {bytes_max}", attributes.len())));
    }
    Ok(file.take(bytes_max))
}

/// Reads all files of a registration, by their keys.
pub(crate) fn read_files(config: &ModelConfig) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    for (key, path, bytes_max) in config.files() {
        let mut bytes = Vec::new();
        let read = open(path, bytes_max).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|error| format!("{key} = {path:?}: {error}"))?;
        assert!(seen.insert(key), "a registration names each file once");
        files.push((key, bytes));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ModelConfig, Task};

    fn of(text: &str) -> Result<ModelConfig, String> {
        // Any files do: they are hashed, not understood.
        ModelConfig::of(text, Path::new(env!("CARGO_MANIFEST_DIR")))
    }

    const GOOD: &str =
        "name = 'm'\nkind = 'model'\ntask = 'image-classes'\nmodel = 'Cargo.toml'\nlabels = 'src/lib.rs'\n";

    #[test]
    fn a_models_registration_is_refused_in_words() {
        let cases = [
            (GOOD.replace("image-classes", "speech"), "task `speech` is not built in; expected image-classes"),
            (GOOD.replace("'Cargo.toml'", "'none.onnx'"), "none.onnx\": No such file"),
            (GOOD.replace("'Cargo.toml'", "'src'"), "expected a regular file"),
            (GOOD.replace("labels", "tokenizer"), "tokenizer: the task image-classes has no such key; it has labels"),
            (GOOD.replace("labels = 'src/lib.rs'", ""), "labels: the task image-classes needs this file"),
            (format!("{GOOD}colour = 1"), "unknown field `colour`"),
            (format!("{GOOD}network = true"), "unknown field `network`"),
            (format!("{GOOD}size = [0, 9]"), "size: 0 pixels; expected 1 to 2048"),
            (format!("{GOOD}top = 0"), "top = 0: expected 1 to 32"),
            (format!("{GOOD}std = [1, 0, 1]"), "those of std not 0"),
            (format!("{GOOD}threshold = 2.0"), "threshold = 2: expected 0 to 1"),
            (format!("{GOOD}memory_bytes = 1"), "memory_bytes = 1: expected"),
            (GOOD.replace("'m'", "'M'"), "expected 1 to 64 of a-z"),
        ];
        for (text, words) in cases {
            let refused = of(&text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    #[test]
    fn every_file_of_a_registration_is_in_its_version() {
        let good = of(GOOD).unwrap();
        assert!(matches!(&good.task, Task::ImageClasses(task) if task.size == [224, 224]));
        assert_eq!(of(GOOD).unwrap().version, good.version);
        for other in [
            GOOD.replace("'Cargo.toml'", "'src/job.rs'"),
            GOOD.replace("src/lib.rs", "src/job.rs"),
            format!("{GOOD}top = 1"),
        ] {
            assert_ne!(of(&other).unwrap().version, good.version, "{other}");
        }
    }
}
