//! What every DGFS process stands on: channels between parts (in one process
//! or over QUIC), clock, disk, configuration, telemetry and lifecycle.
//!
//! Never knows what a file is: it moves messages, it does not read them.
//! Reading order: [`channel`] (what a part may ask of another) → [`quic`] (between processes) → [`pki`] (who is who)
//! → [`clock`], [`random`], [`ports`], [`disk`], [`accounts`] (the world) → [`config`], [`telemetry`], [`trace`], [`metrics`], [`instruments`],
//! [`announce`], [`watch`], [`lifecycle`], [`process`], [`supervisor`] (a process).

pub mod accounts;
pub mod announce;
pub mod channel;
pub mod clock;
pub mod config;
pub mod disk;
pub mod instruments;
pub mod lifecycle;
pub mod metrics;
pub mod pki;
pub mod ports;
pub mod process;
pub mod quic;
pub mod random;
pub mod supervisor;
pub mod telemetry;
pub mod trace;
pub mod watch;
