//! What every command that changes servers does once its plan is agreed to: carry it out, listen for wishes to stop, tell what
//! has to be told. It decides nothing.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;

use super::exit;
use super::exit::Exit;
use super::interrupts::Interrupts;
use super::session::Session;
use super::session::state_identity;
use super::ways;
use crate::apply::Run;
use crate::apply::RunReport;
use crate::apply::lock;
use crate::diagnostic::Failure;
use crate::diagnostic::FailureKind;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::plan::Plan;
use crate::plan::authority::Keys;
use crate::prove::Sessions;
use crate::remote::Ssh;
use crate::state::journal::operator;
use crate::ui::Progress;
use crate::ui::Ui;

/// What is carried out, and how it is named.
#[derive(Debug)]
pub(super) struct Agreed<'a> {
    /// The name of the operation in locks and journal.
    pub(super) operation: &'static str,
    /// The run's name.
    pub(super) run: &'a str,
    pub(super) plan: &'a Plan,
    pub(super) logins: &'a BTreeMap<ServerName, Login>,
    pub(super) keys: &'a Keys,
    /// What the operator answers for: by server, how the operator knows.
    pub(super) attested: Vec<(ServerName, String)>,
    pub(super) begun: Instant,
}

/// Gives back what a dead run of this state directory left locked, where the plan does not lock it itself.
pub(super) async fn give_back(session: &Session<'_>, plan: &Plan) {
    let state = state_identity(&session.state);
    lock::release_left(&session.hosts, &session.observation, &state, |server| plan.touches(server)).await;
}

/// Carries a plan out, and tells its warnings. What ended it early stands in the report.
pub(super) async fn carry_out(session: &Session<'_>, agreed: Agreed<'_>, ui: &Ui) -> Result<RunReport, Failure> {
    let Agreed { operation, run, plan, logins, keys, attested, begun } = agreed;
    let sessions: Sessions<'_, Ssh> = session.sessions(keys)?;
    ui.diagnostics(&ways::require(&sessions, plan, &session.observation).await?);
    // Before anything is done with them: servers that got a certificate of an authority that was lost would be nobody's.
    if let Keys::Held(secrets) = keys {
        session
            .state
            .save_secrets(secrets)
            .map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))?;
    }
    give_back(session, plan).await;
    let progress = Progress::start(ui);
    let events = progress.events();
    let run = Run {
        plan,
        observation: &session.observation,
        hosts: &session.hosts,
        logins,
        sessions: &sessions,
        state: &session.state,
        holder: lock::Holder {
            run: run.to_owned(),
            operation: operation.to_owned(),
            owner: operator(),
            pid: std::process::id(),
            since: Timestamp::now().to_string(),
            state: state_identity(&session.state),
        },
        attested,
        events: &events,
        begun,
    };
    let mut interrupts = Interrupts::listen()?;
    let report = run.carry_out(async || interrupts.next().await).await;
    drop(events);
    progress.finish();
    let report = report?;
    ui.diagnostics(&report.warnings);
    Ok(report)
}

/// Tells what ended a run early, and returns how the process ends.
pub(super) fn end(failure: Option<&Failure>, ui: &Ui) -> Exit {
    match failure {
        None => exit::DONE,
        Some(failure) => {
            ui.diagnostics(&failure.diagnostics);
            failure.kind.into()
        }
    }
}
