//! Spells what a network that reads step by step says (connectionist temporal classification; Graves et al., 2006).
//!
//! Never searches: the best class of each step counts, and one that stays is one letter.

use super::super::largest;

/// The class that stands for no letter.
const BLANK: usize = 0;

/// The letters of a network's classes.
#[derive(Debug)]
pub(super) struct Alphabet {
    /// Of the classes from 1 on.
    letters: Vec<String>,
}

impl Alphabet {
    /// Letters of a network with so many classes: the blank one, one for each letter and perhaps a gap, which lists leave
    /// out.
    ///
    /// # Errors
    ///
    /// A sentence: another number of letters than of classes.
    pub(super) fn new(mut letters: Vec<String>, classes: usize) -> Result<Self, String> {
        match classes.checked_sub(letters.len()) {
            Some(1) => {}
            Some(2) => letters.push(" ".to_owned()),
            _ => return Err(format!("{} of them, but the model has {classes} classes", letters.len())),
        }
        Ok(Self { letters })
    }

    /// The text of `steps` of `classes` probabilities each, and the mean confidence of its letters (0 without any).
    pub(super) fn spell(&self, steps: &[f32], classes: usize) -> (String, f32) {
        let (mut text, mut sum, mut count, mut before) = (String::new(), 0.0, 0_u16, BLANK);
        for step in steps.chunks_exact(classes.max(1)) {
            let (class, confidence) = largest(step).unwrap_or((BLANK, 0.0));
            if class != BLANK && class != before {
                text.push_str(class.checked_sub(1).and_then(|at| self.letters.get(at)).map_or("", String::as_str));
                sum += confidence;
                count = count.saturating_add(1);
            }
            before = class;
        }
        (text, sum / f32::from(count.max(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::Alphabet;

    #[test]
    fn a_letter_that_stays_is_one_and_a_blank_parts_two() {
        let alphabet = Alphabet::new(vec!["a".to_owned(), "b".to_owned()], 4).unwrap();
        let step = |class: usize| (0..4).map(move |at| if at == class { 0.5 } else { 0.1 });
        let steps: Vec<f32> = [0, 1, 1, 0, 1, 2, 3, 3, 2].into_iter().flat_map(step).collect();
        assert_eq!(alphabet.spell(&steps, 4), ("aab b".to_owned(), 0.5));
        assert_eq!(alphabet.spell(&[f32::NAN; 8], 4), (String::new(), 0.0));
        assert_eq!(Alphabet::new(vec!["a".to_owned()], 5).unwrap_err(), "1 of them, but the model has 5 classes");
    }
}
