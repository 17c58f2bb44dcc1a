//! The record of a drill: what an auditor gets.
//!
//! Everything in it was measured or observed; the verdict names each reason.

use jiff::Timestamp;
use serde::Serialize;

use crate::drill::measure::{Measured, Pause, Period};
use crate::drill::schedule::Kind;
use crate::model::name::{ServerName, TopologyName};
use crate::model::quantity::{count, duration};
use crate::model::topology::{Objectives, Purpose};

/// The version of the record's form.
pub const VERSION: u32 = 1;

/// The record of a drill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// [`VERSION`].
    pub version: u32,
    /// The version of pgstead.
    pub pgstead: String,
    /// What was rehearsed.
    pub drill: Kind,
    pub topology: TopologyName,
    /// What the topology is for.
    pub purpose: Purpose,
    /// Who rehearsed, as `user@host`.
    pub operator: String,
    /// When it began.
    pub started: Timestamp,
    /// How long it took.
    pub seconds: f64,
    /// The servers, in the order of the inventory.
    pub servers: Vec<Server>,
    /// What was wished.
    pub objectives: Objectives,
    /// What was done, in order.
    pub stages: Vec<StageRecord>,
    /// How many writes were acknowledged to a client that wrote all the time.
    pub acknowledged_writes: usize,
    /// Where it could write.
    pub periods: Vec<Period>,
    /// When it could not.
    pub pauses: Vec<Pause>,
    /// What was measured.
    pub measured: Measured,
    /// Whether it went as it should.
    pub verdict: Verdict,
}

/// A server at the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    pub name: ServerName,
    pub site: String,
    pub address: String,
    /// What it was: `primary` or `standby`; none where it was not seen.
    pub role: Option<&'static str>,
    /// The version of PostgreSQL, as `postgres --version` prints it.
    pub postgres: Option<String>,
}

/// What became of a stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageRecord {
    /// What it did.
    pub title: String,
    /// The command, as one types it; none of a fault.
    pub command: Option<String>,
    /// Whether what it led to was measured.
    pub measured: bool,
    /// Whether it broke something on purpose.
    pub fault: bool,
    /// When it began, in milliseconds since the beginning.
    pub from_ms: f64,
    /// When it ended.
    pub to_ms: f64,
    /// The exit code; none where it was killed.
    pub exit_code: Option<i32>,
    /// The document that the command answered with; of a fault, what went wrong.
    pub answer: serde_json::Value,
}

impl StageRecord {
    /// Says whether it did its work.
    pub fn is_done(&self) -> bool {
        self.exit_code == Some(0)
    }
}

/// Whether a drill went as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether everything was done and every objective was met.
    pub passed: bool,
    /// Why not, in sentences.
    pub reasons: Vec<String>,
}

/// Judges a drill. `n_stages` is how many there should have been.
pub fn judge(stages: &[StageRecord], n_stages: usize, measured: &Measured, objectives: Objectives) -> Verdict {
    let mut reasons = Vec::new();
    for stage in stages.iter().filter(|stage| !stage.is_done()) {
        let end = stage.exit_code.map_or("was killed".to_owned(), |code| format!("ended with code {code}"));
        reasons.push(format!("To {} {end}.", stage.title));
    }
    if reasons.is_empty() && stages.len() < n_stages {
        reasons.push(format!("Only {} of {n_stages} stages were begun.", stages.len()));
    }
    let changes = stages.iter().any(|stage| stage.measured);
    match measured.recovery_time_ms {
        None if changes => reasons.push("What was measured did not come to its end.".to_owned()),
        Some(took) => {
            if let Some(rto_s) = objectives.rto_s.filter(|rto_s| took > *rto_s as f64 * 1000.0) {
                reasons.push(format!("Recovery took {}, more than the objective of {rto_s} s.", duration(took)));
            }
        }
        None => {}
    }
    if measured.lost_writes > 0 && measured.recovery_point_ms > objectives.rpo_s as f64 * 1000.0 {
        reasons.push(format!(
            "{} of the last {} are lost, more than the objective of {} s.",
            count(measured.lost_writes, "acknowledged write"),
            duration(measured.recovery_point_ms),
            objectives.rpo_s
        ));
    }
    Verdict { passed: reasons.is_empty(), reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(exit_code: Option<i32>) -> StageRecord {
        StageRecord {
            title: "switch over to \"b\"".to_owned(),
            command: Some("pgstead switchover --to b".to_owned()),
            measured: true,
            fault: false,
            from_ms: 0.0,
            to_ms: 1000.0,
            exit_code,
            answer: serde_json::Value::Null,
        }
    }

    #[test]
    fn every_reason_is_named() {
        let good = Measured {
            write_downtime_ms: 130.0,
            recovery_time_ms: Some(900.0),
            lost_writes: 0,
            recovery_point_ms: 0.0,
        };
        let wish = Objectives { rto_s: Some(1), rpo_s: 0 };
        let judge = |stages: &[StageRecord], measured, wish| judge(stages, 1, &measured, wish).reasons;
        assert_eq!(judge(&[stage(Some(0))], good, wish), Vec::<String>::new());
        assert_eq!(judge(&[stage(Some(6))], good, wish), ["To switch over to \"b\" ended with code 6."]);
        assert_eq!(judge(&[stage(None)], good, wish), ["To switch over to \"b\" was killed."]);
        assert_eq!(judge(&[], good, wish), ["Only 0 of 1 stages were begun."]);
        let slow = Measured { recovery_time_ms: Some(1500.0), ..good };
        assert_eq!(judge(&[stage(Some(0))], slow, wish), ["Recovery took 1.5 s, more than the objective of 1 s."]);
        assert_eq!(judge(&[stage(Some(0))], slow, Objectives::default()), Vec::<String>::new());
        let never = Measured { recovery_time_ms: None, ..good };
        assert_eq!(judge(&[stage(Some(0))], never, wish), ["What was measured did not come to its end."]);
        let lossy = Measured { lost_writes: 3, recovery_point_ms: 60.0, ..good };
        let words = "3 acknowledged writes of the last 60 ms are lost, more than the objective of 0 s.";
        assert_eq!(judge(&[stage(Some(0))], lossy, wish), [words]);
        assert_eq!(judge(&[stage(Some(0))], lossy, Objectives { rpo_s: 1, ..wish }), Vec::<String>::new());
    }
}
