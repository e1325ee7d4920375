//! Prints the keywords of texts, for `bench/keywords.py`.
//!
//! Never reads a file: each line of the input is a JSON object `{"name": …, "text": …}`, each line of the output a JSON
//! list of tags, the best first.

use std::io::{self, BufRead, Write};

use dgfs_taggers::{Findings, Job, builtin, kind_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let taggers = builtin();
    for line in io::stdin().lock().lines() {
        let document: serde_json::Value = serde_json::from_str(&line?)?;
        let text = document.get("text").and_then(serde_json::Value::as_str).ok_or("each line needs a text")?;
        let name = document.get("name").and_then(serde_json::Value::as_str).unwrap_or("text.txt");
        let bytes = text.as_bytes();
        let size = u64::try_from(bytes.len())?;
        let job = Job { name, size, bytes, mime_hint: None, charset_hint: Some("utf-8") };
        let kind = kind_of(&job);
        let mut tags = Vec::new();
        for tagger in taggers.iter().filter(|tagger| tagger.wants(&kind)) {
            let mut findings = Findings::default();
            tagger.examine(&job, &kind, &mut findings)?;
            tags.extend(findings.marks.into_iter().map(|mark| mark.tag));
        }
        writeln!(io::stdout(), "{}", serde_json::to_string(&tags)?)?;
    }
    Ok(())
}
