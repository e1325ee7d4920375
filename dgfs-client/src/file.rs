//! Open files: what was written and not sent, what is known of the committed content, and every operation on both.
//!
//! Never touches names. Reading order: `state` (what is known of one file) → `dirty` and `slots` (its parts)
//! → `leased` (what may be believed) → `expected` → `write` → `flush` (seal, put, commit) → `read` → the rest.

pub(crate) mod allocate;
pub(crate) mod append;
pub(crate) mod copy;
pub(crate) mod dirty;
pub(crate) mod expected;
pub(crate) mod flush;
pub(crate) mod leased;
pub(crate) mod open;
pub(crate) mod page_reads;
pub(crate) mod put;
pub(crate) mod read;
pub(crate) mod read_ahead;
pub(crate) mod seek;
pub(crate) mod slots;
pub(crate) mod state;
pub(crate) mod truncate;
pub(crate) mod write;
