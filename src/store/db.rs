//! SQLite.
use super::*;
#[derive(Debug)]
pub struct Store;
#[derive(Debug)]
pub struct OpenError;
