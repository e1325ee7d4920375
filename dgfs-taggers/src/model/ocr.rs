//! The text in a picture: one network finds lines, another reads them.
//!
//! Never reads lines that stand upright or run askew: a line is a rectangle that lies level. Always: lines come in reading
//! order, those of one height from left to right.
//!
//! Made for pairs of networks such as PaddleOCR's: [`lines`] understands the finder, [`ctc`] the reader.

mod ctc;
mod lines;

use image::RgbImage;
use image::imageops::{FilterType, crop_imm, resize};

use super::failed;
use super::pixels::{Normal, Order};
use super::runtime::{Floats, Given, Network, Threads};
use crate::external::model::{Layout, Ocr};
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::media;
use crate::tagger::TaggerError;
use ctc::Alphabet;
use lines::{LineBox, lines};

/// Pixels of the longer side of what the finder sees: more takes seconds and hundreds of megabytes.
const LONG_SIDE_MAX: u32 = 1280;
/// A smaller picture is enlarged until its shorter side has so many pixels, as letters of ten pixels are hard to find.
const SHORT_SIDE_MIN: u32 = 320;
/// The finder halves its input five times.
const STEP: u32 = 32;
/// Rows of a line as the reader sees it.
const LINE_ROWS: u32 = 48;
/// Columns of a line: the least that the reader is made for, and the most that it is given.
const LINE_COLUMNS: std::ops::RangeInclusive<u32> = 320..=3200;
/// The property under which a model carries its characters.
const CHARACTERS: &str = "character";
/// As both networks are trained.
const NORMAL: Normal = Normal { mean: [0.5; 3], std: [0.5; 3], layout: Layout::Nchw, order: Order::Bgr };

/// See the module.
pub(super) struct Reader {
    finder: Network,
    reader: Network,
    alphabet: Alphabet,
    threshold: f32,
}

impl Reader {
    /// # Errors
    ///
    /// A sentence: one of the networks is damaged, or not of this kind, or its characters are not known.
    pub(super) fn open(
        (detector, model): (Vec<u8>, Vec<u8>),
        (task, characters): (Ocr, Option<Vec<String>>),
        threads: &Threads,
    ) -> Result<Self, String> {
        let finder = Network::load("detector", detector, threads)?;
        let reader = Network::load("model", model, threads)?;
        let carried = || reader.property(CHARACTERS).map(|text| text.lines().map(str::to_owned).collect());
        let characters = characters.or_else(carried).ok_or_else(|| {
            "characters: the model carries none, so a file with one on each line is needed".to_owned()
        })?;
        let blank = |width, height| NORMAL.numbers(&RgbImage::new(width, height), width);
        let found = finder.run(vec![Given::Floats(blank(STEP * 2, STEP))]).and_then(|found| as_map(&found).map(drop));
        found.map_err(|reason| format!("detector: it finds no lines: {reason}"))?;
        let read = reader.run(vec![Given::Floats(blank(*LINE_COLUMNS.start(), LINE_ROWS))]);
        let (classes, _) = read.and_then(as_steps).map_err(|reason| format!("model: it reads no lines: {reason}"))?;
        let alphabet = Alphabet::new(characters, classes).map_err(|reason| format!("characters: {reason}"))?;
        Ok(Self { finder, reader, alphabet, threshold: task.threshold })
    }

    pub(super) fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let picture = media::image::upright(job, kind)?;
        let found = self.find(&picture).map_err(failed)?;
        let mut text = String::new();
        for row in lines::rows(found) {
            let mut is_first = true;
            for line in row {
                let (words, confidence) = self.read(&picture, line).map_err(failed)?;
                if words.trim().is_empty() || confidence < self.threshold {
                    continue;
                }
                if !text.is_empty() {
                    text.push(if is_first { '\n' } else { ' ' });
                }
                is_first = false;
                text.push_str(words.trim());
            }
        }
        out.append_text(&text);
        Ok(())
    }

    /// Where lines are, in pixels of the picture.
    fn find(&self, picture: &RgbImage) -> Result<Vec<LineBox>, String> {
        let (width, height) = seen_size(picture.width(), picture.height());
        let seen = resize(picture, width, height, FilterType::Triangle);
        let output = self.finder.run(vec![Given::Floats(NORMAL.numbers(&seen, width))])?;
        let (columns, map) = as_map(&output)?;
        let scale =
            (picture.width() as f32 / columns as f32, picture.height() as f32 * columns as f32 / map.len() as f32);
        Ok(lines(map, columns).into_iter().filter_map(|line| line.scaled(scale, picture.dimensions())).collect())
    }

    /// What a line says, and how sure that is.
    fn read(&self, picture: &RgbImage, line: LineBox) -> Result<(String, f32), String> {
        let [left, top, width, height] = line.place();
        let cut = crop_imm(picture, left, top, width, height).to_image();
        let wanted = u64::from(width) * u64::from(LINE_ROWS) / u64::from(height.max(1));
        let columns = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, *LINE_COLUMNS.end());
        let cut = resize(&cut, columns, LINE_ROWS, FilterType::Triangle);
        let width = columns.max(*LINE_COLUMNS.start());
        let output = self.reader.run(vec![Given::Floats(NORMAL.numbers(&cut, width))])?;
        let (classes, steps) = as_steps(output)?;
        Ok(self.alphabet.spell(&steps, classes))
    }
}

/// The size in which a picture is looked at: whole steps, nearly its shape.
fn seen_size(width: u32, height: u32) -> (u32, u32) {
    let (long, short) = (width.max(height).max(1), width.min(height).max(1));
    let larger = (SHORT_SIDE_MIN as f32 / short as f32).max(1.0);
    let scale = larger.min(LONG_SIDE_MAX as f32 / long as f32);
    let whole = |side: u32| {
        let steps = (side as f32 * scale / STEP as f32).round() as u32;
        steps.clamp(1, LONG_SIDE_MAX / STEP) * STEP
    };
    (whole(width), whole(height))
}

/// The finder's probabilities: columns, and all of them.
fn as_map(output: &Floats) -> Result<(usize, &[f32]), String> {
    match *output.shape.as_slice() {
        [1, 1, rows, columns] if rows > 0 && columns > 0 => Ok((columns, &output.values)),
        _ => Err(format!("its output is {:?}, expected [1, 1, rows, columns]", output.shape)),
    }
}

/// The reader's probabilities: classes, and those of each step.
fn as_steps(output: Floats) -> Result<(usize, Vec<f32>), String> {
    match *output.shape.as_slice() {
        [1, _, classes] if classes > 1 => Ok((classes, output.values)),
        _ => Err(format!("its output is {:?}, expected [1, steps, classes]", output.shape)),
    }
}

#[cfg(test)]
mod tests {
    use super::seen_size;

    #[test]
    fn pictures_are_seen_in_whole_steps_and_in_bounds() {
        assert_eq!(seen_size(640, 480), (640, 480));
        assert_eq!(seen_size(100, 100), (320, 320));
        assert_eq!(seen_size(4000, 3000), (1280, 960));
        assert_eq!(seen_size(1, 100_000), (32, 1280));
        assert_eq!(seen_size(0, 0), (32, 32));
    }
}
