//! Carries a plan out: lock, lease, order, concurrency, stop, journal and audit. It decides nothing; a plan it does not understand is a defect.

#[cfg(debug_assertions)]
mod crash;
mod drain;
pub mod executor;
mod hand_over;
pub mod hook;
pub mod lease;
pub mod lock;
pub mod material;
pub mod passwords;
mod progress;
mod record;
pub mod report;
pub mod run;
mod wishes;
pub mod worker;

pub use report::{RunReport, StepReport};
pub use run::Run;
pub use worker::Worker;
