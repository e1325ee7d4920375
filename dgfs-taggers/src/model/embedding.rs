//! What a text means, as a vector: texts that mean the same have vectors of nearly the same direction.
//!
//! Never reads a format itself: the text is what the taggers of texts find. Always: the vector is one long, and a file without
//! words has none.

use super::failed;
use super::runtime::{Floats, Given, Network, Threads};
use super::wordpiece::WordPiece;
use crate::external::model::TextEmbedding;
use crate::findings::{EMBEDDING_LEN_MAX, Findings, unit_vector};
use crate::job::Job;
use crate::kind::Kind;
use crate::tagger::{Tagger, TaggerError, readers_of_text};

/// See the module.
pub(super) struct Embedder {
    network: Network,
    /// What each of the network's inputs is.
    inputs: Vec<Role>,
    words: WordPiece,
    readers: [Box<dyn Tagger>; 4],
    tokens_max: usize,
}

/// What an input of a model of texts is, by the names that exporters give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The tokens' numbers.
    Tokens,
    /// 1 for each token that counts.
    Mask,
    /// 0 for each token of a first text; there is no second one.
    Segments,
}

impl Embedder {
    /// # Errors
    ///
    /// A sentence: the tokenizer or the network is damaged, or is none of texts.
    pub(super) fn open(
        model: Vec<u8>,
        (task, tokenizer): (TextEmbedding, &[u8]),
        threads: &Threads,
    ) -> Result<Self, String> {
        let words = WordPiece::read(tokenizer, task.lowercase).map_err(|reason| format!("tokenizer: {reason}"))?;
        let network = Network::load("model", model, threads)?;
        let inputs: Vec<Role> = network.inputs().iter().map(|name| role(name)).collect();
        if inputs.iter().filter(|role| **role == Role::Tokens).count() != 1 {
            let names = network.inputs().join(", ");
            return Err(format!("model: its inputs are {names:?}, expected tokens and perhaps a mask and token types"));
        }
        let embedder = Self { network, inputs, words, readers: readers_of_text(), tokens_max: task.tokens };
        let tokens = embedder.words.tokens("", embedder.tokens_max).0;
        embedder.vector(&tokens).map_err(|reason| format!("model: it cannot take an empty text: {reason}"))?;
        Ok(embedder)
    }

    pub(super) fn examine(&self, job: &Job<'_>, kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let mut read = Findings::default();
        for reader in self.readers.iter().filter(|reader| reader.wants(kind)) {
            reader.examine(job, kind, &mut read)?;
        }
        if read.text.trim().is_empty() {
            out.note("no text to make a vector of");
            return Ok(());
        }
        let (tokens, is_whole) = self.words.tokens(&read.text, self.tokens_max);
        if !is_whole {
            out.note(&format!("of a longer text the first {} tokens count", self.tokens_max));
        }
        let vector = self.vector(&tokens).map_err(failed)?;
        out.fingerprints.embedding = unit_vector(vector);
        if out.fingerprints.embedding.is_none() {
            return Err(failed("the network gave a vector without a direction".to_owned()));
        }
        Ok(())
    }

    fn vector(&self, tokens: &[i32]) -> Result<Vec<f32>, String> {
        let input = |role: &Role| match role {
            Role::Tokens => Given::Row(tokens.to_vec()),
            Role::Mask => Given::Row(vec![1; tokens.len()]),
            Role::Segments => Given::Row(vec![0; tokens.len()]),
        };
        pooled(&self.network.run(self.inputs.iter().map(input).collect())?, tokens.len())
    }
}

fn role(name: &str) -> Role {
    let name = name.to_lowercase();
    if name.contains("mask") {
        Role::Mask
    } else if name.contains("type") || name.contains("segment") {
        Role::Segments
    } else {
        Role::Tokens
    }
}

/// One vector: the network's own of the whole text, or the mean of those of its tokens (Reimers and Gurevych, "Sentence-BERT",
/// 2019).
fn pooled(output: &Floats, tokens: usize) -> Result<Vec<f32>, String> {
    let len = output.shape.last().copied().unwrap_or(0);
    if !(1..=EMBEDDING_LEN_MAX).contains(&len) {
        return Err(format!("vectors of {len} numbers, expected 1 to {EMBEDDING_LEN_MAX}"));
    }
    match *output.shape.as_slice() {
        [1, _] | [_] => Ok(output.values.clone()),
        [1, rows, _] if rows == tokens => {
            let mut sums = vec![0.0_f32; len];
            for row in output.values.chunks_exact(len) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value / rows as f32;
                }
            }
            Ok(sums)
        }
        _ => Err(format!("its output is {:?}, expected one vector, or one for each of {tokens} tokens", output.shape)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Floats, Role, pooled, role};

    #[test]
    fn a_vector_is_the_networks_or_the_mean_of_its_tokens() {
        let output = |shape: &[usize]| Floats { shape: shape.to_vec(), values: vec![1.0, 2.0, 3.0, 4.0] };
        assert_eq!(pooled(&output(&[1, 2, 2]), 2), Ok(vec![2.0, 3.0]));
        assert_eq!(pooled(&output(&[1, 4]), 2), Ok(vec![1.0, 2.0, 3.0, 4.0]));
        for wrong in [output(&[2, 2]), output(&[1, 4, 1]), output(&[1, 1, 2, 2]), output(&[])] {
            assert!(pooled(&wrong, 2).is_err(), "{wrong:?}");
        }
        let names = ["input_ids", "attention_mask", "token_type_ids", "segment_ids"].map(role);
        assert_eq!(names, [Role::Tokens, Role::Mask, Role::Segments, Role::Segments]);
    }
}
