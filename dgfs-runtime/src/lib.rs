//! What every DGFS process stands on: channels between parts (in one process
//! or over QUIC), clock, disk, configuration, telemetry and lifecycle.
//!
//! Never knows what a file is: it moves messages, it does not read them.
//! Reading order: [`channel`] (what a part may ask of another) → transports.

pub mod channel;
