//! The one question before a change.
//!
//! On a terminal it is asked; elsewhere `--yes` is needed. `--yes` answers this question only: consent to a
//! restart, to divergence, to loss has its own option, which this module never looks at.

use std::io;
use std::io::BufRead;

use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::plan::{Plan, Risk};
use crate::ui::Ui;
use crate::ui::look::{Style, visible};

/// How grave the change is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    /// It can be changed back.
    Ordinary,
    /// It interrupts clients.
    Disruptive,
    /// It sets data aside.
    Destructive,
    /// It removes data for good.
    Irreversible,
    /// It takes the servers from a run that may be at work.
    Rival,
    /// It believes a machine that shows another key than before: nothing but an answer stands for that.
    Stranger,
}

impl Gravity {
    /// Returns the gravity of a plan: that of its gravest step.
    pub fn of(plan: &Plan) -> Self {
        match plan.steps.iter().map(|planned| planned.step.risk).max() {
            Some(Risk::Destructive) => Self::Destructive,
            Some(Risk::Disruptive) => Self::Disruptive,
            _ => Self::Ordinary,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// How grave the change is.
    pub gravity: Gravity,
    /// The change as a short sentence without a question mark, such as `Carry out 7 steps on 3 servers`.
    pub change: String,
}

/// Asks before a change.
///
/// # Errors
/// Refused, when the answer is no, or when nobody can be asked and `--yes` was not given.
pub fn consent(ui: &Ui, question: &Question) -> Result<(), Failure> {
    if ui.options.yes && question.gravity != Gravity::Stranger {
        return Ok(());
    }
    if !ui.can_ask {
        return Err(Failure::one(
            FailureKind::Refused,
            Diagnostic::error(Code::ConsentMissing, "the change was not confirmed")
                .detail(format!("{}: nobody can be asked here. Nothing was changed.", visible(&question.change)))
                .hint("Run it on a terminal, or add --yes."),
        ));
    }
    ui.say(&prompt(question, ui.err));
    let mut line = String::new();
    // End of input and a broken terminal both mean that nobody said yes.
    let read = io::stdin().lock().read_line(&mut line).unwrap_or_default();
    if read == 0 {
        ui.say("\n");
    }
    if means_yes(question.gravity, &line) {
        return Ok(());
    }
    Err(Failure::one(
        FailureKind::Refused,
        Diagnostic::error(Code::Declined, "the change was not confirmed").detail("Nothing was changed."),
    ))
}

fn prompt(question: &Question, look: crate::ui::Look) -> String {
    let change = look.paint(Style::Bold, &visible(&question.change));
    match question.gravity {
        Gravity::Ordinary => format!("{change}? [y/N] "),
        Gravity::Disruptive => format!("{change}? This interrupts clients. Type \"yes\": "),
        Gravity::Destructive => format!(
            "{change}? This sets data directories aside, or drops the slot of a server that was removed. Type \"yes\": "
        ),
        Gravity::Irreversible => format!("{change}? It cannot be brought back. Type \"yes\": "),
        Gravity::Stranger => format!(
            "{change}? Whoever is in between could show one: compare it with the server's console. Type \"yes\": "
        ),
        Gravity::Rival => format!(
            "{change}? A lease lives: unless you know that its run is dead, two runs would change the same servers. \
             Type \"yes\": "
        ),
    }
}

/// Grave changes need the whole word: a reflex is not consent.
fn means_yes(gravity: Gravity, line: &str) -> bool {
    let answer = line.trim().to_ascii_lowercase();
    answer == "yes" || gravity == Gravity::Ordinary && answer == "y"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::{Look, Options, samples};

    fn question() -> Question {
        Question { gravity: Gravity::of(&samples::plan()), change: "Carry out 6 steps on 2 servers".into() }
    }

    fn ui(yes: bool) -> Ui {
        Ui { options: Options { yes, ..Options::default() }, out: Look::PLAIN, err: Look::PLAIN, can_ask: false }
    }

    #[test]
    fn where_nobody_can_be_asked_yes_is_needed() {
        assert_eq!(consent(&ui(true), &question()), Ok(()));
        let failure = consent(&ui(false), &question()).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Refused);
        insta::assert_snapshot!(crate::ui::diagnostic::render(&failure.diagnostics[0], Look::PLAIN), @r"
        ERROR [consent-missing]: the change was not confirmed
        DETAIL: Carry out 6 steps on 2 servers: nobody can be asked here. Nothing was changed.
        HINT: Run it on a terminal, or add --yes.
        ");
    }

    #[test]
    fn nothing_but_an_answer_stands_for_a_stranger() {
        let question = Question { gravity: Gravity::Stranger, change: "Take its key".into() };
        assert_eq!(consent(&ui(true), &question).unwrap_err().kind, FailureKind::Refused);
        assert!(!means_yes(Gravity::Stranger, "y\n") && means_yes(Gravity::Stranger, "yes\n"));
    }

    #[test]
    fn answers() {
        assert_eq!(question().gravity, Gravity::Destructive);
        assert!(means_yes(Gravity::Ordinary, "Y\n") && means_yes(Gravity::Destructive, "yes\n"));
        assert!(!means_yes(Gravity::Irreversible, "y\n") && means_yes(Gravity::Irreversible, "yes\n"));
        assert!(means_yes(Gravity::Rival, "yes\n") && !means_yes(Gravity::Rival, "y\n"));
        assert!(!means_yes(Gravity::Disruptive, "y\n") && !means_yes(Gravity::Ordinary, "\n"));
        assert_eq!(
            prompt(&question(), Look::PLAIN),
            "Carry out 6 steps on 2 servers? This sets data directories aside, or drops the slot of a server that was removed. Type \"yes\": "
        );
    }
}
