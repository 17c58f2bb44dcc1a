//! Carries out one step on real servers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;

use crate::apply::executor::Work;
use crate::apply::lease::Lease;
use crate::apply::lease::NotDone;
use crate::diagnostic::Diagnostic;
use crate::event::Event;
use crate::event::Events;
use crate::model::argv::Argv;
use crate::model::argv::Login;
use crate::model::name::ServerName;
use crate::plan::Action;
use crate::plan::Step;
use crate::plan::StepId;
use crate::plan::network;
use crate::prove;
use crate::prove::Sessions;
use crate::remote::Host;
use crate::wait;
use crate::wait::Look;

/// How often the upstream is asked how far a base backup is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// The hands of a run.
#[derive(Debug)]
pub struct Worker<'a, H> {
    /// The connections.
    pub hosts: &'a BTreeMap<ServerName, Result<H, String>>,
    /// Who each connection is.
    pub logins: &'a BTreeMap<ServerName, Login>,
    /// The sessions to the instances.
    pub sessions: &'a Sessions<'a, H>,
    /// What every step asks a server for before it acts there.
    pub lease: &'a Lease<'a, H>,
    /// Where progress goes.
    pub events: &'a Events,
}

impl<H: Host> Work for Worker<'_, H> {
    async fn work(&self, id: StepId, step: &Step) -> Result<(), Box<Diagnostic>> {
        match &step.action {
            Action::Run(commands) => self.run(step, commands).await,
            Action::ProveLinks { primary, links } => {
                prove::prove_links(self.sessions, primary, links, prove::NEW_LINK).await
            }
            Action::BaseBackup { commands, upstream } => {
                let copy = Box::pin(self.run(step, commands));
                match select(copy, Box::pin(self.report_progress(id, step, upstream))).await {
                    Either::Left((result, _)) => result,
                    // Progress is a courtesy: where it cannot be asked, the copy goes on alone.
                    Either::Right(((), copy)) => copy.await,
                }
            }
        }
    }
}

/// What to do where a server is turned away because it comes from another address than it has.
fn not_admitted_hint(server: &ServerName, ip: IpAddr) -> String {
    format!(
        "Connections from \"{server}\" arrive from {ip}: something on the way translates the address. Run the command again: the servers then tell each other what they see, and {ip} is admitted. That needs perl on them."
    )
}

impl<H: Host> Worker<'_, H> {
    async fn run(&self, step: &Step, commands: &[Argv]) -> Result<(), Box<Diagnostic>> {
        let no_server = || Box::new(Diagnostic::error("no-connection", "a step has no server to run on"));
        let name = step.server.as_ref().ok_or_else(no_server)?;
        let (Some(Ok(host)), Some(login)) = (self.hosts.get(name), self.logins.get(name)) else {
            return Err(no_server());
        };
        match self.lease.run(host, commands, login).await {
            Ok(_) => Ok(()),
            Err(NotDone::Lost(diagnostic)) => Err(diagnostic),
            Err(NotDone::Failed(error)) => {
                let mut diagnostic = error.diagnostic();
                diagnostic.message = format!("server \"{name}\": could not {}", step.title);
                if let Some(ip) = diagnostic.detail.as_deref().and_then(network::not_admitted) {
                    let Diagnostic { message, detail, command, .. } = diagnostic;
                    let turned_away = Diagnostic::error("address-not-admitted", message).server(name);
                    let hint = Some(not_admitted_hint(name, ip));
                    diagnostic = Diagnostic { detail, command, hint, ..turned_away };
                }
                Err(Box::new(diagnostic))
            }
        }
    }

    /// Asks the upstream how far the base backup is, until the copy ends and this is dropped.
    async fn report_progress(&self, id: StepId, step: &Step, upstream: &ServerName) {
        let Some(standby) = &step.server else { return };
        let Ok(session) = self.sessions.session(upstream).await else { return };
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let _: Result<(), String> =
            wait::until(forever, PROGRESS_EVERY, async || match session.basebackup_progress(standby.as_str()).await {
                Ok(Some(progress)) => {
                    self.events.send(Event::StepProgress {
                        id: id.0,
                        phase: progress.phase,
                        done_bytes: progress.streamed_bytes.max(0).unsigned_abs(),
                        total_bytes: progress.total_bytes.map(|bytes| bytes.max(0).unsigned_abs()),
                    });
                    Look::NotYet("under way".to_owned())
                }
                Ok(None) => Look::NotYet("not begun".to_owned()),
                Err(_) => Look::Ready(()),
            })
            .await;
    }
}
