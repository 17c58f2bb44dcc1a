//! One escaper per grammar: shell, SQL, `postgresql.conf`, `pg_hba.conf`, conninfo, URIs, passfile, PgBouncer, unit files of systemd;
//! and what takes passwords out of texts that are shown.
//!
//! Layer 0. Each file turns any text into one inert token of its grammar and has a property test; nothing else in the
//! program escapes anything (hazard 87).

pub mod conf;
pub mod conninfo;
pub mod hba;
pub mod mask;
pub mod pgbouncer;
pub mod pgpass;
pub mod sh;
pub mod sql;
pub mod systemd;
pub mod uri;
