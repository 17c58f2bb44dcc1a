//! The plan as text: every step with its server, risk, order, file diffs and exact commands.
//!
//! It shows what the plan holds and adds no judgement. Secret files and secret input are named, never shown. What is long
//! and says little (scripts, certificates, what servers share) is named too; `-v` shows it.

use std::collections::BTreeMap;

use crate::diagnostic::Diagnostic;
use crate::model::argv::{Argv, Login, Piece, RootAccess};
use crate::model::name::{ServerName, TopologyName};
use crate::model::quantity::count;
use crate::plan::{Action, HandOver, Hook, Plan, PlannedStep, Risk, SettingChange, Step, StepId};
use crate::ui::changes::Shown;
use crate::ui::columns::{Cell, cell, styled, table};
use crate::ui::look::{Look, Style, columns, one_line, pad, visible};
use crate::ui::{changes, diagnostic};

/// How many lines of a command's input are shown without `-v`.
const STDIN_LINES: usize = 12;

/// What is shown of a plan.
#[derive(Debug, Clone, Copy)]
pub struct PlanView<'a> {
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
    text(view, look, true)
}

/// Renders a plan with one line per step, without files and commands.
pub fn render_steps(view: &PlanView<'_>, look: Look) -> String {
    text(view, look, false)
}

fn text(view: &PlanView<'_>, look: Look, with_details: bool) -> String {
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
        let mut shown = Shown::default();
        for planned in &plan.steps {
            heading_of_step(&mut out, planned, widths, look);
            if with_details {
                details(&mut out, &planned.step, view, &mut shown, &" ".repeat(widths.id + 2), look);
            }
        }
        if with_details {
            out.push_str(&settings(plan, look));
        }
        out.push_str(&format!("\n{}\n", summary(plan)));
        if with_details && !look.whole {
            out.push_str("Comments, scripts, certificates and what servers share are left out; -v shows every line.\n");
        }
    }
    for note in &plan.notes {
        out.push_str(&diagnostic::render(note, look));
    }
    out
}

/// Lists the effective settings that change on running instances.
fn settings(plan: &Plan, look: Look) -> String {
    if plan.settings.is_empty() {
        return String::new();
    }
    let row = |change: &SettingChange| {
        vec![
            cell(change.server.as_str()),
            cell(&change.name),
            cell(&change.before),
            cell(&change.source),
            cell(change.after.as_deref().unwrap_or("as the operator's files say")),
            if change.restart { styled("restart", Style::Warn) } else { cell("reload") },
        ]
    };
    let rows: Vec<Vec<Cell>> = plan.settings.iter().map(row).collect();
    let table = table(&["SERVER", "SETTING", "NOW", "FROM", "NEW", "NEEDS"], &rows, look);
    format!("\nSettings of running instances that change:\n{table}")
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

fn heading_of_step(out: &mut String, planned: &PlannedStep, widths: Widths, look: Look) {
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
}

fn details<'a>(out: &mut String, step: &'a Step, view: &PlanView<'_>, shown: &mut Shown<'a>, indent: &str, look: Look) {
    for change in &step.files {
        changes::render(out, change, server_word(step), shown, indent, look);
    }
    for (line, argv) in view.command_lines(step).iter().zip(step.commands()) {
        // The script that installs files has their paths, owners and modes as arguments, and would repeat them.
        if !step.files.is_empty() && !look.whole && line.contains('\n') {
            continue;
        }
        let line = changes::command(line, look);
        out.push_str(&format!("{indent}{} {line}\n", look.paint(Style::Dim, "$")));
        // Where a step has files, their diffs have shown its input already.
        if step.files.is_empty() {
            stdin(out, argv, indent, look);
        }
    }
    if let Action::HandOver(hand_over) = &step.action {
        hand_over_details(out, hand_over, view, indent, look);
    }
    if let Action::Hook(hook) = &step.action {
        hook_details(out, "on this machine", hook, indent, look);
    }
    // The title of such a step names its links, where they are few.
    if let Action::ProveLinks { links, .. } = &step.action
        && look.whole
    {
        for link in links {
            out.push_str(&format!("{indent}{} {} {}\n", link.upstream, look.or_ascii("→", "->"), link.standby));
        }
    }
}

/// A program of the operator's, with -v what it is told.
fn hook_details(out: &mut String, when: &str, hook: &Hook, indent: &str, look: Look) {
    out.push_str(&format!(
        "{indent}{when}, {} s at most: {}\n",
        hook.timeout_s,
        visible(&hook.program.display().to_string())
    ));
    for (name, value) in hook.environment.iter().filter(|_| look.whole) {
        out.push_str(&format!("{indent}  {name}={value}\n"));
    }
}

/// The rest of a handover: what promotes the successor, and with -v what takes it back where it can't be promoted.
fn hand_over_details(out: &mut String, hand_over: &HandOver, view: &PlanView<'_>, indent: &str, look: Look) {
    let HandOver { from, to, promote, patience_s, unmark, undo, before, pause, undone, .. } = hand_over;
    if let Some(hook) = before {
        hook_details(out, "first, on this machine", hook, indent, look);
    }
    for (server, argv) in pause.iter().flat_map(|(server, all)| all.iter().map(move |argv| (server, argv))) {
        let Some(login) = view.logins.get(server) else { continue };
        let line = changes::command(&argv.line(login), look);
        out.push_str(&format!(
            "{indent}so that clients of PgBouncer wait, {server} {} {line}\n",
            look.paint(Style::Dim, "$")
        ));
    }
    if let Some(login) = view.logins.get(to) {
        let line = changes::command(&promote.line(login), look);
        let prompt = look.paint(Style::Dim, "$");
        out.push_str(&format!("{indent}when it has replayed the shutdown checkpoint, {to} {prompt} {line}\n"));
    }
    if !look.whole {
        return;
    }
    out.push_str(&format!(
        "{indent}Where \"{from}\" does not end in order, or \"{to}\" stands still before that for {patience_s} s:\n"
    ));
    for (when, commands) in [("not told to end yet", unmark), ("told to end", undo)] {
        for (server, argv) in commands.iter().flat_map(|(server, all)| all.iter().map(move |argv| (server, argv))) {
            let Some(login) = view.logins.get(server) else { continue };
            let line = changes::command(&argv.line(login), look);
            out.push_str(&format!("{indent}({when}) {server} {} {line}\n", look.paint(Style::Dim, "$")));
        }
    }
    if let Some(hook) = undone {
        hook_details(out, "behind that, on this machine", hook, indent, look);
    }
}

/// Says what a step waits for, where it is not simply the step before.
fn waits(planned: &PlannedStep) -> String {
    let previous = planned.id.0.checked_sub(1).filter(|&id| id > 0).map(StepId);
    match planned.after.as_slice() {
        [] if previous.is_none() => String::new(),
        [] => ", at once".to_owned(),
        [one] if Some(*one) == previous => String::new(),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|id| id.0.to_string()).collect();
            let and = if first.is_empty() { "" } else { " and " };
            format!(", after {}{and}{}", first.join(", "), last.0)
        }
    }
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
    // The settings at the head of each SQL text are always the same.
    let settings = lines.iter().take_while(|line| line.starts_with("SET ")).count();
    let (settings, limit) = if look.whole { (0, lines.len()) } else { (settings, STDIN_LINES) };
    let lines = lines.get(settings..).unwrap_or_default();
    let (shown, more) = lines.split_at(lines.len().min(limit));
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
    fn one_line_per_step() {
        let plan = samples::plan();
        let text = render_steps(&samples::view(Ok(&plan)), Look::PLAIN);
        assert_eq!(text.lines().count(), 2 + plan.steps.len() + 2 + plan.notes.len());
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
        let shown = render(&view, Look { whole: true, ..Look::PLAIN })
            + &render(&view, Look::PLAIN)
            + &crate::ui::json::text(&crate::ui::json::PlanDocument::new(&view)).unwrap();
        assert!(!shown.contains(samples::SECRET));
    }
}
