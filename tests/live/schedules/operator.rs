//! Who commands a failover: reads what was said, follows the hints, and is honest about what is off.

use crate::scenario::Ran;
use crate::schedules::NAMES;
use crate::schedules::Stage;

/// What was told of the loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// That there is none.
    Nothing,
    /// So many transactions.
    Transactions(u64),
    /// That nobody knows.
    Unknown,
}

/// An operator with a wish.
#[derive(Debug, Clone)]
pub(super) struct Operator {
    /// Who was the primary.
    pub(super) from: &'static str,
    /// Who shall be the primary.
    pub(super) to: String,
    /// Whether what only the former primary has may be lost.
    pub(super) accepts_loss: bool,
    /// What was told of the loss so far, with the server that was to become the primary.
    pub(super) told: Vec<(String, Told)>,
    /// Whether a standby was not looked at, which may have had more.
    pub(super) has_missed: bool,
}

impl Operator {
    pub(super) fn new(from: &'static str, to: &str, accepts_loss: bool) -> Self {
        Self { from, to: to.to_owned(), accepts_loss, told: Vec::new(), has_missed: false }
    }

    /// The command. A server is said to be off only when it is.
    pub(super) fn command(&self, stage: &Stage) -> Vec<String> {
        let mut words = vec!["failover", "--to", &self.to, "--yes", "--format", "json"];
        if self.accepts_loss {
            words.push("--accept-loss");
        }
        if !stage.lab.host(self.from).is_running() {
            words.extend(["--attest-fenced", self.from, "--reason", "the lab cut its power"]);
        }
        words.into_iter().map(str::to_owned).collect()
    }

    /// The standby that is not to be the primary.
    fn other(&self) -> String {
        NAMES.into_iter().find(|name| *name != self.from && *name != self.to).unwrap().to_owned()
    }

    /// Remembers what was told of the loss, and follows what can be followed on the command line.
    pub(super) fn hears(&mut self, ran: &Ran) {
        self.told.extend(told(&ran.to_string()).map(|told| (self.to.clone(), told)));
        for code in ran.codes() {
            match code.as_str() {
                "loss-needs-consent" => self.accepts_loss = true,
                "not-looked-at" => self.has_missed = true,
                "successor-behind" => {
                    let other = self.other();
                    assert!(ran.to_string().contains(&format!("pgstead failover --to {other}")), "{ran}");
                    self.to = other;
                    return;
                }
                // The other one is the primary already.
                "primary-runs" if !ran.to_string().contains(&format!("\\\"{}\\\" is the primary", self.from)) => {
                    self.to = self.other();
                    return;
                }
                _ => {}
            }
        }
    }

    /// What was told of the loss by making this server the primary.
    pub(super) fn told_of(&self, to: &str) -> Vec<Told> {
        self.told.iter().filter(|(of, _)| of == to).map(|(_, told)| *told).collect()
    }
}

/// Finds what was told of the loss.
pub(super) fn told(text: &str) -> Option<Told> {
    if let Some((_, rest)) = text.split_once("On the former primary alone: ") {
        let n = rest.split_once(" transaction")?.0.parse().unwrap_or_else(|_| panic!("no number: {rest}"));
        return Some(Told::Transactions(n));
    }
    if text.contains("Nothing is lost: ") {
        return Some(Told::Nothing);
    }
    text.contains("What is on the former primary alone is not known").then_some(Told::Unknown)
}

/// I2: acknowledged rows that are missing, but not more than was told.
pub(super) fn beyond_told(missing: &[u64], told: &[Told]) -> Vec<String> {
    let n = missing.len() as u64;
    let judge = |told: &Told| {
        let is_kept = match told {
            Told::Nothing => n == 0,
            Told::Transactions(told) => n <= *told,
            Told::Unknown => true,
        };
        (!is_kept).then(|| format!("I2: {n} acknowledged rows are lost, and told was {told:?}"))
    };
    let untold =
        (n > 0 && told.is_empty()).then(|| format!("I2: {n} acknowledged rows are lost, and nothing was told"));
    told.iter().filter_map(judge).chain(untold).collect()
}

/// I2: what is lost is the end of what a had acknowledged, and nothing in between.
pub(super) fn holes(acknowledged: &[u64], missing: &[u64]) -> Vec<String> {
    let between = |id: &&u64| missing.first() < Some(id) && Some(id) < missing.last().as_ref();
    let there = acknowledged.iter().filter(between).filter(|id| !missing.contains(id)).count();
    match there {
        0 => Vec::new(),
        n => vec![format!("I2: between the lost rows {n} others are there: they are not the last ones")],
    }
}
