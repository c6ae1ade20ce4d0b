//! Access to `config.json`.

/// A configuration.
pub struct Config;
