//! What a server wrote after it left the history that counts: words only. Where it comes from is for `observe/lost`.

use serde::Serialize;

use crate::model::lsn::Lsn;

/// What only a diverged server has, as its own WAL tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Transactions that were committed.
    pub transactions: u64,
    /// When the first of them was committed, by that server's clock.
    pub first: Option<String>,
    /// When the last of them was.
    pub last: Option<String>,
    /// Where its WAL ends.
    pub end: Option<Lsn>,
    /// The tables that were written to, those with most records first.
    pub tables: Vec<LostTable>,
    /// Relations that were written to, and whose names the primary does not know: made since, or of the catalog.
    pub unnamed: u64,
}

/// A table that a diverged server wrote to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostTable {
    pub database: String,
    /// Its name with its schema, as SQL has it.
    pub name: String,
    /// Records of WAL that change it.
    pub records: u64,
}
