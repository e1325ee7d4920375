//! What a worker and its parent say to each other.
//!
//! Never carries more than its bounds. The worker greets with one JSON line; then the parent sends frames, a JSON line
//! followed by exactly `content_len` raw bytes, and the worker answers each with one JSON line, in order.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use crate::findings::Findings;
use crate::job::{BYTES_MAX, Job, NAME_BYTES_MAX};
use crate::kind::Kind;
use crate::sandbox::InForce;
use crate::text::cut;

/// Bytes of a frame's line at most: a name and two hints, escaped.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Bytes of an answer's line at most: what all taggers may find together, escaped, and no more.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Changes when an old parent and a new worker would misunderstand each other.
pub const PROTOCOL: u32 = 1;

/// The worker's first line.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// [`PROTOCOL`].
    pub dgfs_tagger_worker: u32,
    /// Which limits the worker sees on itself.
    pub in_force: InForce,
    /// Why it will answer no job: a model that cannot be used. `None`: it waits for jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The line before a file's bytes.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The answer repeats it.
    pub id: u64,
    /// Base name of the file.
    pub name: String,
    /// Bytes of the whole file.
    pub size: u64,
    /// See [`Job::mime_hint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_hint: Option<String>,
    /// See [`Job::charset_hint`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset_hint: Option<String>,
    /// Bytes that follow the line.
    pub content_len: u64,
}

impl Header {
    /// The header of a job; a name or hint longer than a file system has is cut.
    pub fn of(id: u64, job: &Job<'_>) -> Self {
        let short = |text: &str| cut(text, NAME_BYTES_MAX).to_owned();
        Self {
            id,
            name: short(job.name),
            size: job.size,
            mime_hint: job.mime_hint.map(short),
            charset_hint: job.charset_hint.map(short),
            content_len: job.bytes.len() as u64,
        }
    }
}

/// All taggers' words on one file.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Answer {
    /// The header's.
    pub id: u64,
    /// What the file is.
    pub kind: Kind,
    /// Of each tagger that had something to look at.
    pub findings: Vec<Found>,
    /// Of each tagger that could not do its work.
    pub failures: Vec<Failed>,
}

/// What one tagger found.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Found {
    /// The tagger.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// Within their bounds.
    pub findings: Findings,
}

/// How a job ended that did not end well.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// The tagger said that it cannot do it.
    #[default]
    Failed,
    /// Its process ended in the middle, or could not be started.
    Crashed,
    /// It gave no answer in time.
    TimedOut,
    /// It was not handed over.
    Refused,
}

/// Why one tagger found nothing, or not all.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The tagger.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// A sentence.
    pub reason: String,
    /// Another try may end otherwise. The parent's word alone: a tagger that can say why it failed would fail again.
    #[serde(skip)]
    pub passing: bool,
    /// How it ended.
    #[serde(default)]
    pub ended: Ended,
}

/// Reads the next frame; `None` at the end of the input.
///
/// # Errors
///
/// Where the input ends inside a frame, a line is too long or no header, or the content is larger than a job's.
pub fn read_frame(input: &mut impl BufRead) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut line = Vec::new();
    let line_max = HEADER_BYTES_MAX as u64;
    input.by_ref().take(line_max).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() != Some(&b'\n') {
        return Err(invalid(format!("a frame's header is not ended within {HEADER_BYTES_MAX} bytes")));
    }
    let header: Header = serde_json::from_slice(&line)
        .map_err(|error| invalid(format!("a frame's header is not as expected: {error}")))?;
    if header.content_len > BYTES_MAX as u64 {
        return Err(invalid(format!("a frame of {} bytes, of at most {BYTES_MAX}", header.content_len)));
    }
    let mut content = Vec::new();
    input.by_ref().take(header.content_len).read_to_end(&mut content)?;
    if content.len() as u64 != header.content_len {
        return Err(invalid(format!("the input ended after {} of {} bytes", content.len(), header.content_len)));
    }
    Ok(Some((header, content)))
}

fn invalid(sentence: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

#[cfg(test)]
mod tests {
    use super::{Header, read_frame};
    use crate::job::Job;

    #[test]
    fn a_frame_is_read_back_and_broken_ones_are_refused_in_words() {
        let job = Job { name: "a\nb", size: 9, bytes: b"12\n4", mime_hint: Some("text/plain"), charset_hint: None };
        let header = Header::of(7, &job);
        let frame = [serde_json::to_vec(&header).unwrap(), b"\n12\n4".to_vec()].concat();
        let mut input = &frame[..];
        assert_eq!(read_frame(&mut input).unwrap(), Some((header, b"12\n4".to_vec())));
        assert_eq!(read_frame(&mut input).unwrap(), None);
        let huge = br#"{"id":1,"name":"x","size":1,"content_len":99999999999}"#;
        let cases: [(&[u8], &str); 4] = [
            (&frame[..frame.len() - 1], "the input ended after 3 of 4 bytes"),
            (&[b'x'; 10_000], "not ended within"),
            (b"{}\n", "not as expected"),
            (&[huge, &b"\n"[..]].concat(), "of at most"),
        ];
        for (bytes, words) in cases {
            let error = read_frame(&mut &bytes[..]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
