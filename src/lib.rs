//! pgstead: PostgreSQL disaster recovery for a team with three servers.
//!
//! **observe → judge → plan → apply → check.** From one inventory pgstead goes over SSH, sees what is on the
//! servers, decides everything, shows it, does it, and proves that every replication link moves data.
//!
//! What it cannot know: an SSH exit status of 255 may mean that the connection broke or that the command said 255; a
//! step whose outcome is unknown is observed again, never repeated blindly. A server that cannot be reached is not
//! dead. A link that says `streaming` may be cut: only data that arrived proves it.
//!
//! The modules, in reading order (imports go downward only; `tests/tidy.rs` enforces it):
//!
//! - layer 0: [`model`] the words, [`quote`] the grammars
//! - layer 1: [`inventory`], [`render`], [`pki`], [`judge`], [`plan`], [`check`], [`preflight`], [`role_change`], [`drill`]: pure; [`diagnostic`] and [`event`]
//! - layer 2: [`remote`] SSH, [`postgres`] SQL over TLS; [`wait`] looks again until a deadline
//! - layer 3: [`observe`], [`prove`] and [`apply`], the only code that touches servers; [`state`] the operator's own
//!   files; [`lab`] makes servers to touch
//! - layer 4: [`ui`] and [`cli`]

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking"))]

pub mod apply;
pub mod check;
pub mod cli;
pub mod diagnostic;
pub mod drill;
pub mod event;
pub mod inventory;
pub mod judge;
pub mod lab;
pub mod model;
pub mod observe;
pub mod pki;
pub mod plan;
pub mod postgres;
pub mod preflight;
pub mod prove;
pub mod quote;
pub mod remote;
pub mod render;
pub mod role_change;
pub mod state;
pub mod ui;
pub mod wait;
