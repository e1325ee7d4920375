//! Calls that are refused.
