//! A worker whose taggers misbehave as the file's content asks, for the tests of the pool.
//!
//! Never of use to anyone else. It is a real worker in all other respects, with all real taggers.

use std::io::Write;
use std::net::UdpSocket;
use std::process::Command;

use dgfs_taggers::{Findings, Job, Kind, Tagger, TaggerError, builtin, worker};

struct Hostile;

impl Tagger for Hostile {
    fn name(&self) -> &'static str {
        "hostile"
    }

    fn version(&self) -> u32 {
        1
    }

    fn wants(&self, kind: &Kind) -> bool {
        kind.mime == "text/plain"
    }

    fn examine(&self, job: &Job<'_>, _kind: &Kind, out: &mut Findings) -> Result<(), TaggerError> {
        let order = std::str::from_utf8(job.bytes).unwrap_or_default();
        match order.split_whitespace().next().unwrap_or_default() {
            "HANG" => loop {
                std::hint::spin_loop();
            },
            "EAT" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1_u8; 16 << 20]);
                    std::hint::black_box(&eaten);
                }
            }
            "ABORT" => std::process::abort(),
            "PANIC" => std::panic::panic_any("as ordered".to_owned()),
            "RECURSE" => out.number("depth", recurse(job.size as f64)),
            "PRINT" => {
                println!("rubbish on standard output");
                let _ = std::io::stdout().flush();
            }
            "EXIT" => std::process::exit(0),
            "FORBIDDEN" => {
                let socket = UdpSocket::bind("127.0.0.1:0").is_ok();
                let opened = std::fs::File::open("/etc/passwd").is_ok();
                let written = std::fs::write("hostile-worker-wrote-this", "x").is_ok();
                let started = Command::new("true").status().is_ok();
                out.text_value("done", &format!("{socket} {opened} {written} {started}"));
            }
            _ => {}
        }
        Ok(())
    }
}

fn recurse(depth: f64) -> f64 {
    let frame = [depth; 64];
    std::hint::black_box(&frame);
    if depth < 0.0 {
        return depth;
    }
    1.0 + recurse(depth + 1.0) + frame.iter().sum::<f64>()
}

fn main() -> std::io::Result<()> {
    let mut taggers = builtin();
    taggers.push(Box::new(Hostile));
    worker::run(&taggers)
}
