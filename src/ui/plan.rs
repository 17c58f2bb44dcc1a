//! The plan as text: every step with its server, risk, order, file diffs and exact commands.
//!
//! It shows what the plan holds and adds no judgement. Secret files and secret input are named, never shown.

use std::collections::BTreeMap;

use similar::TextDiff;

use crate::diagnostic::Diagnostic;
use crate::model::argv::Argv;
use crate::model::argv::Login;
use crate::model::argv::Piece;
use crate::model::argv::RootAccess;
use crate::model::name::ServerName;
use crate::model::name::TopologyName;
use crate::plan::Action;
use crate::plan::FileChange;
use crate::plan::Plan;
use crate::plan::PlannedStep;
use crate::plan::Risk;
use crate::plan::Step;
use crate::plan::StepId;
use crate::ui::diagnostic;
use crate::ui::look::Look;
use crate::ui::look::Style;
use crate::ui::look::columns;
use crate::ui::look::one_line;
use crate::ui::look::pad;
use crate::ui::look::visible;
use crate::ui::quantity::count;

/// How many lines of a command's input are shown.
const STDIN_LINES: usize = 12;

/// What is shown of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanView<'a> {
    /// The topology.
    pub topology: &'a TopologyName,
    /// The plan, or every refusal.
    pub plan: Result<&'a Plan, &'a [Diagnostic]>,
    /// The logins that were observed; commands show how each becomes root or another user.
    pub logins: &'a BTreeMap<ServerName, Login>,
}

impl PlanView<'_> {
    /// Returns the commands of a step as copy-pastable shell lines.
    pub(crate) fn command_lines(&self, step: &Step) -> Vec<String> {
        // Where nobody has looked at the login, the form with sudo is right for every login but root.
        let assumed = Login { user: String::new(), root: RootAccess::Sudo };
        let login = step.server.as_ref().and_then(|server| self.logins.get(server)).unwrap_or(&assumed);
        step.commands().iter().map(|argv| argv.line(login)).collect()
    }
}

/// Renders a plan or its refusals' summary. The refusals themselves are diagnostics and go to stderr.
pub fn render(view: &PlanView<'_>, look: Look) -> String {
    let plan = match view.plan {
        Ok(plan) => plan,
        Err(refusals) => {
            return format!("No plan for {}: {}.\n", view.topology, count(refusals.len(), "refusal"));
        }
    };
    let mut out = String::new();
    if !plan.changes() {
        out.push_str(&format!("No changes. {} is as the inventory says.\n", view.topology));
    } else {
        let servers: std::collections::BTreeSet<_> = plan.steps.iter().filter_map(|s| s.step.server.as_ref()).collect();
        let heading = format!(
            "Plan for {}: {} on {}",
            view.topology,
            count(plan.steps.len(), "step"),
            count(servers.len(), "server")
        );
        out.push_str(&format!("{}\n\n", look.paint(Style::Bold, &heading)));
        let widths = Widths::of(plan);
        for planned in &plan.steps {
            step(&mut out, planned, view, widths, look);
        }
        out.push_str(&format!("\n{}\n", summary(plan)));
    }
    for note in &plan.notes {
        out.push_str(&diagnostic::render(note, look));
    }
    out
}

/// Counts the steps by risk.
pub(crate) fn summary(plan: &Plan) -> String {
    let of = |risk: Risk| plan.steps.iter().filter(|planned| planned.step.risk == risk).count();
    let parts: Vec<String> = [Risk::Read, Risk::Reversible, Risk::Disruptive, Risk::Destructive]
        .into_iter()
        .filter(|&risk| of(risk) > 0)
        .map(|risk| format!("{} {}", of(risk), risk_word(risk)))
        .collect();
    format!("{}: {}.", count(plan.steps.len(), "step"), parts.join(", "))
}

/// Returns the word for a risk.
pub(crate) fn risk_word(risk: Risk) -> &'static str {
    match risk {
        Risk::Read => "read",
        Risk::Reversible => "reversible",
        Risk::Disruptive => "disruptive",
        Risk::Destructive => "destructive",
    }
}

#[derive(Debug, Clone, Copy)]
struct Widths {
    id: usize,
    server: usize,
    title: usize,
}

impl Widths {
    fn of(plan: &Plan) -> Self {
        let width = |f: fn(&PlannedStep) -> usize| plan.steps.iter().map(f).max().unwrap_or_default();
        Self {
            id: width(|planned| planned.id.0.to_string().len()),
            server: width(|planned| columns(server_word(&planned.step))),
            // One very long title must not push the risks of all others away.
            title: width(|planned| columns(&planned.step.title)).min(60),
        }
    }
}

/// Returns the server's name, or what stands for several.
fn server_word(step: &Step) -> &str {
    step.server.as_ref().map_or("(all)", ServerName::as_str)
}

fn step(out: &mut String, planned: &PlannedStep, view: &PlanView<'_>, widths: Widths, look: Look) {
    let step = &planned.step;
    let risk = match step.risk {
        Risk::Read | Risk::Reversible => Style::Dim,
        Risk::Disruptive => Style::Warn,
        Risk::Destructive => Style::Bad,
    };
    out.push_str(&format!(
        "{:>id$}  {}  {}  {}{}\n",
        planned.id.0,
        look.paint(Style::Accent, &pad(server_word(step), widths.server)),
        pad(&one_line(&step.title), widths.title),
        look.paint(risk, risk_word(step.risk)),
        waits(planned),
        id = widths.id,
    ));
    let indent = " ".repeat(widths.id + 2);
    for change in &step.files {
        file(out, change, &indent, look);
    }
    for (line, argv) in view.command_lines(step).iter().zip(step.commands()) {
        out.push_str(&format!("{indent}{} {}\n", look.paint(Style::Dim, "$"), visible(line)));
        // Where a step has files, their diffs have shown its input already.
        if step.files.is_empty() {
            stdin(out, argv, &indent, look);
        }
    }
    if let Action::ProveLinks { links, .. } = &step.action {
        for link in links {
            out.push_str(&format!("{indent}{} {} {}\n", link.upstream, look.or_ascii("→", "->"), link.standby));
        }
    }
}

/// Says what a step waits for, where it is not simply the step before.
fn waits(planned: &PlannedStep) -> String {
    let previous = planned.id.0.checked_sub(1).filter(|&id| id > 0).map(StepId);
    match planned.after.as_slice() {
        [] if previous.is_none() => String::new(),
        [] => ", at once".to_owned(),
        [one] if Some(*one) == previous => String::new(),
        several => {
            let numbers: Vec<String> = several.iter().map(|id| id.0.to_string()).collect();
            format!(", after {}", numbers.join(" and "))
        }
    }
}

fn file(out: &mut String, change: &FileChange, indent: &str, look: Look) {
    let path = look.paint(Style::Bold, &one_line(&change.path));
    let Some(diff) = unified_diff(change) else {
        // Whether a secret file is there already is not shown either.
        out.push_str(&format!("{indent}* {path} (secret, not shown)\n"));
        return;
    };
    let sign = if change.before.is_none() { "+" } else { "~" };
    out.push_str(&format!("{indent}{sign} {path}\n"));
    for line in diff.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => Style::Good,
            Some(b'-') => Style::Bad,
            Some(b'@') => Style::Accent,
            _ => Style::Plain,
        };
        out.push_str(&format!("{indent}  {}\n", look.paint(style, &visible(line))));
    }
}

/// Returns the unified diff of a file without its file header; `None` when the file is secret.
pub(crate) fn unified_diff(change: &FileChange) -> Option<String> {
    let after = change.after.as_deref()?;
    let Some(before) = change.before.as_deref() else {
        return Some(after.lines().map(|line| format!("+{line}\n")).collect());
    };
    let diff = TextDiff::from_lines(before, after);
    Some(diff.unified_diff().context_radius(3).to_string())
}

fn stdin(out: &mut String, argv: &Argv, indent: &str, look: Look) {
    let text: String = argv
        .stdin
        .iter()
        .map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Secret(secret) => secret.to_string(),
        })
        .collect();
    let lines: Vec<&str> = text.lines().collect();
    let (shown, more) = lines.split_at(lines.len().min(STDIN_LINES));
    for line in shown {
        out.push_str(&format!("{indent}{} {}\n", look.paint(Style::Dim, "<"), visible(line)));
    }
    if !more.is_empty() {
        out.push_str(&format!("{indent}{} ({} more)\n", look.paint(Style::Dim, "<"), count(more.len(), "line")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples;

    #[test]
    fn plan_text() {
        let plan = samples::plan();
        insta::assert_snapshot!(render(&samples::view(Ok(&plan)), Look::PLAIN));
    }

    #[test]
    fn empty_plan_and_refusals() {
        let empty = Plan { steps: Vec::new(), ..samples::plan() };
        let text = render(&samples::view(Ok(&empty)), Look::PLAIN);
        assert!(text.starts_with("No changes. crawler is as the inventory says.\n"), "{text}");
        let refusals = [samples::refusal()];
        assert_eq!(render(&samples::view(Err(&refusals)), Look::PLAIN), "No plan for crawler: 1 refusal.\n");
    }

    #[test]
    fn secrets_are_never_shown() {
        let plan = samples::plan();
        let view = samples::view(Ok(&plan));
        let shown =
            render(&view, Look::PLAIN) + &crate::ui::json::text(&crate::ui::json::PlanDocument::new(&view)).unwrap();
        assert!(!shown.contains(samples::SECRET));
    }
}
