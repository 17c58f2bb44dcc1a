//! Rehearsals: what is done in which order, what a client saw meanwhile, and whether that is good enough.
//!
//! Pure: [`mod@schedule`] decides the stages, [`measure`] turns the writes of a client into pauses and losses, [`evidence`] is the
//! record that an auditor gets. Who carries a stage out, and who writes, is not known here.

pub mod evidence;
pub mod measure;
pub mod schedule;

pub use evidence::Evidence;
pub use measure::Write;
pub use schedule::{Act, Fault, Kind, Stage, schedule};
