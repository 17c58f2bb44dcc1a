//! What a client saw: where it could write, when it could not, and what of that is gone.
//!
//! Times are milliseconds since the drill began, by the operator's clock alone.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::model::name::ServerName;

/// A pause between two acknowledged writes that is worth telling, in milliseconds: a write that waits for a disk is none.
const PAUSE_MS: f64 = 50.0;

/// One write that was acknowledged.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Who acknowledged it.
    pub server: ServerName,
    /// Its number in the canary table.
    pub seq: i64,
    /// What stands in it.
    pub nonce: String,
    /// When it was acknowledged.
    pub at_ms: f64,
}

/// A time in which one server acknowledged writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Period {
    pub server: ServerName,
    /// Its first acknowledgement.
    pub from_ms: f64,
    /// Its last acknowledgement.
    pub to_ms: f64,
    /// How many there were.
    pub writes: usize,
}

/// A time in which nothing was acknowledged.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pause {
    /// The last acknowledgement before it.
    pub from_ms: f64,
    /// The first one after it; none where there was none any more.
    pub to_ms: Option<f64>,
    /// Whether another server acknowledged after it than before.
    pub server_changed: bool,
}

/// Returns the times in which each server acknowledged writes, in order.
pub fn periods(writes: &[Write]) -> Vec<Period> {
    let mut periods: Vec<Period> = Vec::new();
    for write in writes {
        match periods.last_mut() {
            Some(period) if period.server == write.server => {
                period.to_ms = write.at_ms;
                period.writes += 1;
            }
            _ => periods.push(Period {
                server: write.server.clone(),
                from_ms: write.at_ms,
                to_ms: write.at_ms,
                writes: 1,
            }),
        }
    }
    periods
}

/// Returns the pauses, in order; `end_ms` is when the client stopped.
pub fn pauses(writes: &[Write], end_ms: f64) -> Vec<Pause> {
    let between = writes.windows(2).map(|pair| Pause {
        from_ms: pair[0].at_ms,
        to_ms: Some(pair[1].at_ms),
        server_changed: pair[0].server != pair[1].server,
    });
    let last = writes.last().map(|last| Pause { from_ms: last.at_ms, to_ms: None, server_changed: false });
    let length = |pause: &Pause| pause.to_ms.unwrap_or(end_ms) - pause.from_ms;
    between.chain(last).filter(|pause| length(pause) >= PAUSE_MS || pause.server_changed).collect()
}

/// What is measured of one drill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measured {
    /// The longest time without an acknowledged write between the beginning of the measured stage and that of the way back.
    pub write_downtime_ms: f64,
    /// From the beginning of the measured stage until it was made good: until clients could write on the new primary, or, of a
    /// standby, until it was back. None where it was not.
    pub recovery_time_ms: Option<f64>,
    /// Acknowledged writes that are on no primary any more.
    pub lost_writes: usize,
    /// How long before the fault the first of them was acknowledged.
    pub recovery_point_ms: f64,
}

/// When the measured stage and its consequences begin and end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// When the measured stage began.
    pub from_ms: f64,
    /// When the stages that mend it had ended; none where they did not get there.
    pub mended_ms: Option<f64>,
    /// When the way back began, or the drill ended.
    pub to_ms: f64,
    /// Whether the primary changes in it.
    pub changes_primary: bool,
}

/// Measures. `lost` are the numbers of writes that are gone.
pub fn measure(writes: &[Write], lost: &BTreeSet<(i64, String)>, window: Window) -> Measured {
    let Window { from_ms, mended_ms, to_ms, changes_primary } = window;
    let before = writes.iter().rfind(|write| write.at_ms < from_ms);
    // The last one before it counts: the pause begins there.
    let during = writes.iter().filter(|write| write.at_ms >= from_ms && write.at_ms < to_ms);
    let times: Vec<f64> = before.into_iter().chain(during).map(|write| write.at_ms).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let rest = times.last().map_or(to_ms - from_ms, |last| to_ms - last);
    let recovery_time_ms = match changes_primary {
        true => {
            let former = before.map(|write| &write.server);
            let new = writes.iter().find(|write| write.at_ms >= from_ms && Some(&write.server) != former);
            new.map(|write| write.at_ms - from_ms)
        }
        false => mended_ms.map(|at| at - from_ms),
    };
    let is_lost = |write: &&Write| lost.contains(&(write.seq, write.nonce.clone()));
    let first = writes.iter().find(is_lost);
    Measured {
        write_downtime_ms: longest.max(rest),
        recovery_time_ms,
        lost_writes: writes.iter().filter(is_lost).count(),
        recovery_point_ms: first.map_or(0.0, |write| (from_ms - write.at_ms).max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(spec: &[(&str, f64)]) -> Vec<Write> {
        let write = |(index, (server, at_ms)): (usize, &(&str, f64))| Write {
            server: server.parse().unwrap(),
            seq: index as i64,
            nonce: format!("n{index}"),
            at_ms: *at_ms,
        };
        spec.iter().enumerate().map(write).collect()
    }

    #[test]
    fn a_change_of_the_primary_is_a_pause() {
        let writes =
            writes(&[("a", 0.0), ("a", 20.0), ("a", 40.0), ("b", 165.0), ("b", 185.0), ("b", 300.0), ("a", 420.0)]);
        let all: Vec<(f64, Option<f64>, bool)> = pauses(&writes, 430.0)
            .into_iter()
            .map(|pause| (pause.from_ms, pause.to_ms, pause.server_changed))
            .collect();
        assert_eq!(all, [(40.0, Some(165.0), true), (185.0, Some(300.0), false), (300.0, Some(420.0), true)]);
        let of_b = &periods(&writes)[1];
        assert_eq!((of_b.from_ms, of_b.to_ms, of_b.writes), (165.0, 300.0, 3));
        let window = Window { from_ms: 30.0, mended_ms: Some(200.0), to_ms: 310.0, changes_primary: true };
        let measured = measure(&writes, &BTreeSet::new(), window);
        assert_eq!((measured.write_downtime_ms, measured.recovery_time_ms), (125.0, Some(135.0)));
        assert_eq!((measured.lost_writes, measured.recovery_point_ms), (0, 0.0));
    }

    #[test]
    fn what_is_lost_dates_from_its_first_write() {
        let writes = writes(&[("a", 0.0), ("a", 900.0), ("a", 980.0), ("b", 2100.0)]);
        let lost = [(1, "n1".to_owned()), (2, "n2".to_owned())].into();
        let window = Window { from_ms: 1000.0, mended_ms: None, to_ms: 3000.0, changes_primary: true };
        let measured = measure(&writes, &lost, window);
        assert_eq!((measured.lost_writes, measured.recovery_point_ms), (2, 100.0));
        // A number that another row has on the new primary is no row of ours.
        let other = [(1, "x".to_owned())].into();
        assert_eq!(measure(&writes, &other, window).lost_writes, 0);
    }

    #[test]
    fn where_nobody_can_write_any_more_the_pause_lasts_to_the_end() {
        let writes = writes(&[("a", 0.0), ("a", 20.0)]);
        let window = Window { from_ms: 30.0, mended_ms: None, to_ms: 5030.0, changes_primary: true };
        let measured = measure(&writes, &BTreeSet::new(), window);
        assert_eq!((measured.write_downtime_ms, measured.recovery_time_ms), (5010.0, None));
        assert_eq!(pauses(&writes, 5030.0).last().unwrap().to_ms, None);
    }

    #[test]
    fn a_standby_that_comes_back_costs_no_writes() {
        let writes = writes(&[("a", 0.0), ("a", 20.0), ("a", 40.0), ("a", 60.0)]);
        let window = Window { from_ms: 10.0, mended_ms: Some(50.0), to_ms: 60.0, changes_primary: false };
        let measured = measure(&writes, &BTreeSet::new(), window);
        assert_eq!((measured.write_downtime_ms, measured.recovery_time_ms), (20.0, Some(40.0)));
    }
}
