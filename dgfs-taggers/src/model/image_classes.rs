//! What a picture shows, by a network that classifies.
//!
//! Never says more than the few classes that it was told to, and none below the threshold. Always: a tag's confidence is
//! the network's probability.

use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

use super::pixels::{Normal, Order};
use super::runtime::{Given, Network, Threads};
use super::{failed, largest};
use crate::external::model::{ImageClasses, Scores};
use crate::findings::Findings;
use crate::job::Job;
use crate::kind::Kind;
use crate::media;
use crate::tagger::TaggerError;

/// See the module.
pub(super) struct Classifier {
    network: Network,
    task: ImageClasses,
    labels: Vec<String>,
}

impl Classifier {
    /// # Errors
    ///
    /// A sentence: the network is damaged, takes no such pictures, or knows another number of classes than there are labels.
    pub(super) fn open(
        model: Vec<u8>,
        (task, labels): (ImageClasses, Vec<String>),
        threads: &Threads,
    ) -> Result<Self, String> {
        let classifier = Self { network: Network::load("model", model, threads)?, task, labels };
        let [width, height] = classifier.task.size;
        let scores = classifier
            .scores(&RgbImage::from_pixel(width, height, Rgb([0; 3])))
            .map_err(|reason| format!("model: it cannot take a picture of {width} by {height} pixels: {reason}"))?;
        if scores.len() == classifier.labels.len() {
            return Ok(classifier);
        }
        Err(format!("model: it knows {} classes, but labels has {} lines", scores.len(), classifier.labels.len()))
    }

    pub(super) fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let picture = media::image::upright(job, kind)?;
        let [width, height] = self.task.size;
        let picture = resize(&picture, width, height, FilterType::Triangle);
        let mut scores = self.scores(&picture).map_err(failed)?;
        if self.task.scores == Scores::Logits {
            softmax(&mut scores);
        }
        for _ in 0..self.task.top {
            let Some((at, score)) = largest(&scores) else { break };
            if score < self.task.threshold {
                break;
            }
            if let (Some(label), Some(place)) = (self.labels.get(at), scores.get_mut(at)) {
                let tag = if self.task.tag.is_empty() { label.clone() } else { format!("{}:{label}", self.task.tag) };
                out.mark(&tag, score);
                *place = f32::NAN;
            }
        }
        Ok(())
    }

    fn scores(&self, picture: &RgbImage) -> Result<Vec<f32>, String> {
        let ImageClasses { mean, std, layout, .. } = self.task;
        let normal = Normal { mean, std, layout, order: Order::Rgb };
        let output = self.network.run(vec![Given::Floats(normal.numbers(picture, picture.width()))])?;
        // [classes], [1, classes] or [1, classes, 1, 1]: one picture's scores, whatever the frame.
        if output.shape.iter().filter(|len| **len != 1).count() > 1 {
            return Err(format!("its output is {:?}, expected one number for each class", output.shape));
        }
        Ok(output.values)
    }
}

/// Probabilities of any numbers. The largest is taken away first, so that nothing overflows.
fn softmax(values: &mut [f32]) {
    let most = largest(values).map_or(0.0, |(_, value)| value);
    let mut sum = 0.0;
    for value in values.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    for value in values {
        *value /= sum;
    }
}

#[cfg(test)]
mod tests {
    use super::softmax;

    #[test]
    fn a_softmax_of_large_numbers_stays_a_probability() {
        let mut values = [1000.0, 1000.0, -1000.0];
        softmax(&mut values);
        assert_eq!(values, [0.5, 0.5, 0.0]);
    }
}
