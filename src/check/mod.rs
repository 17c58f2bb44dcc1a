//! Judges links and servers: healthy, unhealthy, or unknown.
//!
//! Pure: (topology, observation, canaries) in, a verdict with findings out. "Could not look" is never healthy.

pub mod report;

pub use report::CheckReport;
pub use report::LinkReport;
pub use report::ServerReport;
pub use report::Verdict;
