//! Whether each call is measured: yes, but for a comparison that tells what that costs.
//!
//! Never touches what is right or wrong, nor a request's number: only counts and times. Always the same from start to end of a
//! process.

use std::sync::LazyLock;

/// Set to `off`, calls are neither counted nor timed: numbers stand still, slow operations have no stages, alerts sleep.
pub const VARIABLE: &str = "DGFS_INSTRUMENTS";

static ON: LazyLock<bool> = LazyLock::new(|| is_on(std::env::var_os(VARIABLE).as_deref()));

/// Are calls measured?
#[must_use]
pub fn are_on() -> bool {
    *ON
}

/// Says in the log that they are not: whoever watches such a process would wonder.
pub fn warn_if_off() {
    if !are_on() {
        tracing::warn!(
            "calls are neither counted nor timed, as {VARIABLE}=off asks for: numbers and alerts of this process mean nothing"
        );
    }
}

fn is_on(value: Option<&std::ffi::OsStr>) -> bool {
    value.is_none_or(|value| value != "off")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::is_on;

    #[test]
    fn only_the_word_switches_them_off() {
        assert!(is_on(None) && is_on(Some(OsStr::new(""))) && is_on(Some(OsStr::new("on"))));
        assert!(!is_on(Some(OsStr::new("off"))));
    }
}
