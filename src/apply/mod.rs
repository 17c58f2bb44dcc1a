//! Carries a plan out: order, concurrency, stop. It decides nothing; a plan it does not understand is a defect.

pub mod report;

pub use report::Outcome;
pub use report::RunReport;
pub use report::StepReport;
