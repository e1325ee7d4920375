//! Tags by name (stand-in until the grammar lands).

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// A tag's canonical spelling.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(String);
