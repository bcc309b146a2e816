//! The one TOML file and its `conf.d`: load, compose the parts' own types, cross-check names.
