//! What judges random failovers is broken on purpose once, and must be heard.

use crate::schedules::failover::writes_again;
use crate::schedules::operator::Told;
use crate::schedules::operator::beyond_told;
use crate::schedules::operator::holes;
use crate::schedules::operator::told;
use crate::traces::Sample;
use crate::traces::Traces;

#[test]
fn a_loss_that_was_not_told_is_heard() {
    for (missing, of, n_heard) in [
        (&[][..], &[Told::Nothing, Told::Transactions(0), Told::Unknown][..], 0),
        (&[], &[], 0),
        (&[7], &[Told::Unknown, Told::Transactions(1)], 0),
        (&[7], &[Told::Unknown, Told::Nothing], 1),
        (&[7, 8], &[Told::Transactions(1)], 1),
        (&[7], &[], 1),
    ] {
        assert_eq!(beyond_told(missing, of).len(), n_heard, "{missing:?} {of:?}");
    }
    let words = "DETAIL: On the former primary alone: 12 transactions, in 3456 bytes of WAL.";
    assert_eq!(told(words), Some(Told::Transactions(12)));
    assert_eq!(told("Nothing is lost: \\\"a\\\" committed nothing"), Some(Told::Nothing));
    assert_eq!(told("What is on the former primary alone is not known: its server"), Some(Told::Unknown));
    assert_eq!(told("HINT: look"), None);
}

#[test]
fn a_row_that_is_lost_from_the_middle_is_heard() {
    assert!(holes(&[1, 2, 3, 4], &[]).is_empty());
    assert!(holes(&[1, 2, 3, 4], &[2, 3]).is_empty());
    assert_eq!(holes(&[1, 2, 3, 4], &[1, 3]).len(), 1);
}

#[test]
fn a_former_primary_that_writes_again_is_heard() {
    let samples = |at: &[u64]| at.iter().map(|at| Sample { at: *at, writable: true }).collect::<Vec<_>>();
    let traces = |a: &[u64], b: &[u64]| Traces {
        samples: vec![("a".to_owned(), samples(a)), ("b".to_owned(), samples(b))],
        acknowledged: Vec::new(),
    };
    assert!(writes_again(&traces(&[1, 2, 9], &[5, 6]), "b", 8).is_empty());
    assert_eq!(writes_again(&traces(&[1, 2, 7], &[5, 6]), "b", 8).len(), 1);
    assert_eq!(writes_again(&traces(&[1, 2], &[]), "b", 8).len(), 1);
}
