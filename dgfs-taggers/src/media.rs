//! Pictures, sound and film: what their headers say, and what a picture looks like.
//!
//! Never plays anything. Films are not decoded at all, pictures only up to a number of pixels.

pub(crate) mod audio;
pub(crate) mod boxes;
pub(crate) mod exif;
pub(crate) mod image;
pub(crate) mod look;
pub(crate) mod matroska;
pub(crate) mod place;
pub(crate) mod video;
