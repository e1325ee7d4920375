//! Models as taggers: networks that the tests write, loaded from a disk by real workers behind their limits.
//!
//! Never downloads anything in the short form; `DGFS_LONG=1` fetches a package with real networks and reads a picture by them.

#![cfg(feature = "models")]
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod networks;
mod onnx;
mod real;

use std::ffi::OsString;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use dgfs_taggers::external::{External, load_all};
use dgfs_taggers::protocol::{Failed, Found};
use dgfs_taggers::{Job, kind_of};
use image::{ImageFormat, Rgb, RgbImage};

const RED: [u8; 3] = [250, 0, 0];
const BLUE: [u8; 3] = [0, 0, 250];
const WHITE: [u8; 3] = [255; 3];
const BLACK: [u8; 3] = [0; 3];

/// Words of a registration of a model that tells red from blue.
const COLOURS: &str = "kind = 'model'\ntask = 'image-classes'\nmodel = 'm.onnx'\nlabels = 'labels.txt'\nsize = [8, 8]\n\
                       mean = [0, 0, 0]\nstd = [1, 1, 1]\n";

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("models-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(file), bytes).unwrap();
    }

    /// Registers a model.
    fn tagger(&self, registration: &str) -> External {
        self.write("m.toml", format!("name = 'm'\n{registration}"));
        External::load(&self.0.join("m.toml"), &worker()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Registers a network that takes pictures of 8 by 8 pixels and knows red and blue.
    fn classifier(&self, network: impl AsRef<[u8]>, more: &str) -> External {
        self.write("m.onnx", network);
        self.write("labels.txt", "red\nblue\n");
        self.tagger(&format!("{COLOURS}{more}"))
    }

    async fn examine(&self, tagger: &External, (name, bytes): (&str, &[u8])) -> Result<Found, Failed> {
        let job = Job { name, size: bytes.len() as u64, bytes, mime_hint: None, charset_hint: None };
        let kind = kind_of(&job);
        assert!(tagger.wants(&kind), "{kind:?}");
        tagger.examine(&job, &kind, &self.0.join("spool")).await
    }

    /// Plain tags of a picture of one colour, or why there are none.
    async fn tags(&self, tagger: &External, colour: [u8; 3]) -> Result<Vec<String>, String> {
        let png = png(&RgbImage::from_pixel(20, 30, Rgb(colour)));
        let found = self.examine(tagger, ("a.png", &png)).await.map_err(|failed| failed.reason)?;
        Ok(found.findings.marks.into_iter().map(|mark| mark.tag).collect())
    }

    async fn vector(&self, tagger: &External, text: &str) -> Option<Vec<f32>> {
        self.examine(tagger, ("a.txt", text.as_bytes())).await.unwrap().findings.fingerprints.embedding
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Cargo builds examples before it runs tests, beside the tests' own folder.
fn worker() -> Vec<OsString> {
    let test = std::env::current_exe().unwrap();
    vec![test.parent().and_then(Path::parent).unwrap().join("examples/model_worker").into()]
}

fn png(picture: &RgbImage) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, ImageFormat::Png).unwrap();
    out.into_inner()
}

#[tokio::test]
async fn pictures_get_the_classes_that_a_network_sees_in_them() {
    let folder = Folder::new("classes");
    let tagger = folder.classifier(networks::colours(), "");
    assert_eq!(folder.tags(&tagger, RED).await, Ok(vec!["red".to_owned()]));
    assert_eq!(folder.tags(&tagger, BLUE).await, Ok(vec!["blue".to_owned()]));
    assert_eq!(tagger.off(), None);
    let half = folder.classifier(networks::colours(), "tag = 'colour'\nthreshold = 0.25\n");
    let both = png(&RgbImage::from_fn(8, 8, |x, _| if x < 5 { Rgb(RED) } else { Rgb([0, 0, 240]) }));
    let found = folder.examine(&half, ("a.png", &both)).await.unwrap();
    assert_eq!((found.name.as_str(), found.version), ("m", half.version()));
    let [red] = &found.findings.marks[..] else { panic!("{:?}", found.findings.marks) };
    // Means 250·5/8 and 240·3/8 of 255, times ten; the rest is the softmax.
    let confidence = 1.0 / (1.0 + (2400.0 * 3.0 / 8.0 / 255.0 - 2500.0 * 5.0 / 8.0 / 255.0_f32).exp());
    assert_eq!(red.tag, "colour:red");
    assert!((red.confidence - confidence).abs() < 1e-4, "{} for {confidence}", red.confidence);
}

#[tokio::test]
async fn a_picture_that_is_cut_off_fails_alone() {
    let folder = Folder::new("cut");
    let tagger = folder.classifier(networks::colours(), "");
    let whole = png(&RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8 * 4, y as u8 * 4, (x * y) as u8])));
    let failed = folder.examine(&tagger, ("a.png", &whole[..whole.len() / 2])).await.unwrap_err();
    assert!(failed.reason.starts_with("not a readable picture"), "{}", failed.reason);
    assert_eq!((folder.tags(&tagger, RED).await, tagger.off()), (Ok(vec!["red".to_owned()]), None));
}

#[tokio::test]
async fn a_model_that_cannot_be_used_is_off_with_a_sentence() {
    let folder = Folder::new("off");
    let good = networks::colours();
    let mut damaged = good.clone();
    damaged.iter_mut().for_each(|byte| *byte ^= 0x5a);
    let texts = networks::meanings(true);
    let cases: [(&[u8], &str, &str); 7] = [
        (&good[..good.len() / 2], "", "model: "),
        (&damaged, "", "no usable ONNX model"),
        (b"", "", "model: 0 bytes that are no usable ONNX model"),
        (b"\x89PNG\r\n\x1a\n", "", "no usable ONNX model"),
        (&good, "layout = 'nhwc'\n", "by 8 pixels: its input has the shape [1, 3, 8, 8], given is [1, 8, 8, 3]"),
        (&texts, "", "it cannot take a picture of 8 by 8 pixels"),
        (&networks::always_greedy(), "", "the model is not used: "),
    ];
    for (network, more, words) in cases {
        let tagger = folder.classifier(network, more);
        let reason = folder.tags(&tagger, RED).await.unwrap_err();
        assert!(reason.starts_with("the model is not used: ") && reason.contains(words), "{words}: {reason}");
        println!("{reason}");
        assert_eq!(tagger.off(), Some(reason.as_str()));
        assert_eq!(folder.tags(&tagger, BLUE).await, Err(reason), "no second try");
    }
    let tagger = folder.classifier(&good, "");
    folder.write("labels.txt", "red\n");
    let reason = folder.tags(&tagger, RED).await.unwrap_err();
    assert!(reason.contains("has changed since the start"), "{reason}");
    folder.write("m.toml", format!("name = 'm'\n{COLOURS}"));
    let tagger = External::load(&folder.0.join("m.toml"), &worker()).unwrap();
    let reason = folder.tags(&tagger, RED).await.unwrap_err();
    assert!(reason.ends_with("it knows 2 classes, but labels has 1 lines"), "{reason}");
}

#[tokio::test]
async fn a_network_that_eats_memory_fails_one_job_and_goes_on() {
    let folder = Folder::new("memory");
    let tagger = folder.classifier(networks::greedy(), "threshold = 0.0\nmemory_bytes = 536870912\n");
    let tags = folder.tags(&tagger, BLACK).await.unwrap();
    assert_eq!(tags.len(), 2, "{tags:?}");
    let reason = folder.tags(&tagger, WHITE).await.unwrap_err();
    assert!(reason.contains("ended before it answered") || reason.contains("panicked"), "{reason}");
    assert_eq!((folder.tags(&tagger, BLACK).await, tagger.off()), (Ok(tags), None));
}

#[tokio::test]
async fn a_network_that_does_not_end_is_killed_and_goes_on() {
    let folder = Folder::new("time");
    let tagger = folder.classifier(networks::slow(), "threshold = 0.0\ntimeout_ms = 4000\n");
    let tags = folder.tags(&tagger, BLACK).await.unwrap();
    let reason = folder.tags(&tagger, WHITE).await.unwrap_err();
    assert!(
        reason.starts_with("no answer within 4000 ms") || reason.starts_with("no answer within 24000 ms"),
        "{reason}"
    );
    assert!(reason.ends_with("the tagger process was killed"), "{reason}");
    assert_eq!((folder.tags(&tagger, BLACK).await, tagger.off()), (Ok(tags), None));
}

#[tokio::test]
async fn texts_of_one_meaning_have_vectors_of_one_direction() {
    let folder = Folder::new("embedding");
    folder.write("vocab.txt", networks::VOCABULARY);
    let cosine = |one: &[f32], two: &[f32]| one.iter().zip(two).map(|(one, two)| one * two).sum::<f32>();
    let mut all = Vec::new();
    for is_pooled in [false, true] {
        folder.write("m.onnx", networks::meanings(is_pooled));
        let tagger =
            folder.tagger("kind = 'model'\ntask = 'text-embedding'\nmodel = 'm.onnx'\ntokenizer = 'vocab.txt'\n");
        let mut vectors = Vec::new();
        for text in ["The cat.", "A KITTEN!", "the engine", "motor, motor, motor"] {
            let vector = folder.vector(&tagger, text).await.unwrap();
            assert!((cosine(&vector, &vector) - 1.0).abs() < 1e-5, "{vector:?}");
            vectors.push(vector);
        }
        assert!(cosine(&vectors[0], &vectors[1]) > 0.8 && cosine(&vectors[2], &vectors[3]) > 0.8, "{vectors:?}");
        assert!(cosine(&vectors[0], &vectors[2]) < 0.6 && cosine(&vectors[1], &vectors[3]) < 0.6, "{vectors:?}");
        assert_eq!(folder.vector(&tagger, "  \n").await, None, "no words, no meaning");
        all.push(vectors);
    }
    for (mean, pooled) in all[0].iter().zip(&all[1]) {
        assert!((cosine(mean, pooled) - 1.0).abs() < 1e-5, "{mean:?} {pooled:?}");
    }
}

#[tokio::test]
async fn text_in_a_picture_is_found_and_read_in_order() {
    let folder = Folder::new("ocr");
    folder.write("find.onnx", networks::finder());
    folder.write("m.onnx", networks::reader());
    let ocr = "kind = 'model'\ntask = 'ocr'\nmodel = 'm.onnx'\ndetector = 'find.onnx'\nthreshold = 0.2\n";
    let tagger = folder.tagger(ocr);
    // Dark bars with coloured letters in them, on white: "rbb" left and "g" right of it, "gr" below.
    let letters = |x: u32, from: u32, letters: &'static [u8]| {
        let at = x.checked_sub(from).filter(|at| at % 40 >= 24).map(|at| (at / 40) as usize);
        at.and_then(|at| letters.get(at)).map_or(BLACK, |letter| match letter {
            b'r' => RED,
            b'g' => [0, 250, 0],
            _ => BLUE,
        })
    };
    let picture = RgbImage::from_fn(640, 320, |x, y| {
        Rgb(match (x, y) {
            (60..220, 60..80) => letters(x, 60, b"rbb"),
            (400..480, 62..82) => letters(x, 400, b"g"),
            (60..180, 200..220) => letters(x, 60, b"gr"),
            _ => WHITE,
        })
    });
    let found = folder.examine(&tagger, ("a.png", &png(&picture))).await.unwrap();
    assert_eq!(found.findings.text, "rbb g\ngr");
    let empty = folder.examine(&tagger, ("b.png", &png(&RgbImage::from_pixel(50, 50, Rgb(WHITE))))).await.unwrap();
    assert_eq!(empty.findings.text, "");
    folder.write("characters.txt", "b\n");
    let tagger = folder.tagger(&format!("{ocr}characters = 'characters.txt'\n"));
    let failed = folder.examine(&tagger, ("a.png", &png(&picture))).await.unwrap_err();
    assert!(failed.reason.ends_with("characters: 1 of them, but the model has 5 classes"), "{}", failed.reason);
}

#[test]
fn a_wrong_model_does_not_stop_the_others() {
    let folder = Folder::new("registrations");
    folder.write("m.onnx", networks::colours());
    folder.write("labels.txt", "red\nblue\n");
    folder.write("a.toml", format!("name = 'a'\n{COLOURS}"));
    folder.write("b.toml", format!("name = 'b'\n{}", COLOURS.replace("m.onnx", "none.onnx")));
    folder.write("c.toml", format!("name = 'c'\n{}", COLOURS.replace("image-classes", "speech")));
    folder.write("d.toml", "name = 'd'\nversion = 1\ncommand = ['true']\nclasses = ['text']\n");
    let (taggers, refused) = load_all(&folder.0, &worker());
    assert_eq!(taggers.iter().map(External::name).collect::<Vec<_>>(), ["a", "d"]);
    let refused: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert!(refused[0].contains("b.toml: model = ") && refused[0].contains("No such file"), "{refused:?}");
    assert!(refused[1].contains("c.toml: task `speech` is not built in"), "{refused:?}");
    let before = taggers[0].version();
    folder.write("m.onnx", networks::slow());
    assert_ne!(load_all(&folder.0, &worker()).0[0].version(), before, "another model looks again");
}
