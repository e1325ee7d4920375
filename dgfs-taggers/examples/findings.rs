//! Prints what all taggers find in files, as JSON: `cargo run --example findings FILE…`.
//!
//! Never applies the limits of a worker: for looking at files that one trusts.

use std::io::{self, Write};

use dgfs_taggers::{Job, builtin, worker};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let taggers = builtin();
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path)?;
        let name = path.rsplit('/').next().unwrap_or(&path);
        let size = u64::try_from(bytes.len())?;
        let bytes = bytes.get(..dgfs_taggers::job::BYTES_MAX).unwrap_or(&bytes);
        let begin = std::time::Instant::now();
        let answer = worker::examine(0, &Job { name, size, bytes, mime_hint: None, charset_hint: None }, &taggers);
        writeln!(io::stderr(), "{path}: {} ms", begin.elapsed().as_millis())?;
        writeln!(io::stdout(), "{}", serde_json::to_string_pretty(&answer)?)?;
    }
    Ok(())
}
