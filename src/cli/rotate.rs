//! `rotate`: servers get new certificates, each proven before the next is touched.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::{Session, to_plan};
use super::{inventory, runner};
use crate::diagnostic::{Failure, FailureKind};
use crate::model::name::ServerName;
use crate::observe::probe::Wish;
use crate::pki::OperatorSecrets;
use crate::plan::Plan;
use crate::plan::operation::rotate::{Renewal, succession};
use crate::plan::operation::{reseed, rotate};
use crate::plan::survey::authority::Keys;
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, report};

/// Give servers new certificates, and prove that they are served
///
/// One server after the other, the primary last. Certificate and key change in one rename; the instance reads them by a reload, and
/// no session ends. Then a connection that is opened anew must be shown the new certificate, and the server and every other must log
/// in to each other anew, before the next server is touched.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead rotate certificates            all servers, after showing the plan and asking
  pgstead rotate certificates b c        these alone
  pgstead rotate certificates --dry-run  show the plan alone")]
pub(super) struct RotateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Certificates(CertificatesArgs),
}

/// Issue new certificates for servers, by the CA that this machine holds
///
/// They replace those of the server and its client certificate, however long these are valid still. The CA stays. A run that was
/// interrupted is finished by the same command, which issues new ones once more.
///
/// With --ca a new CA takes the place of the one in use: every server trusts both, then each gets certificates of the new one, then
/// the former one leaves. All servers must run. No session ends, and applications that verify the servers go on with the CA
/// certificate that they have, until it expires. A run that was interrupted is finished by the same command.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead rotate certificates            all servers, after showing the plan and asking
  pgstead rotate certificates b c        these alone
  pgstead rotate certificates --ca       a new CA, and certificates of it for all servers
  pgstead rotate certificates --dry-run  show the plan alone")]
struct CertificatesArgs {
    /// The servers; all of them where none is named
    #[arg(value_name = "SERVER")]
    servers: Vec<String>,
    /// Replace the CA as well, on all servers
    #[arg(long, conflicts_with = "servers")]
    ca: bool,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &RotateArgs, ui: &Ui) -> Result<Exit, Failure> {
    let What::Certificates(args) = &args.what;
    let inventory = inventory::load(globals, ui)?;
    let refused = |diagnostic: Box<_>| Failure::one(FailureKind::Refused, *diagnostic);
    let named = args.servers.iter().map(|word| reseed::find(&inventory.topology, word).cloned().map_err(refused));
    let servers = named.collect::<Result<_, _>>()?;
    if args.ca {
        let succession = Succession { is_dry_run: args.dry_run };
        return Ok(runner::run(&succession, &inventory, ui, |view, told| tell(view, told, ui))?.exit());
    }
    let rotation = Rotation { servers, is_dry_run: args.dry_run };
    Ok(runner::run(&rotation, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

/// Servers get new certificates; all of them where none is named.
struct Rotation {
    servers: BTreeSet<ServerName>,
    is_dry_run: bool,
}

impl Operation for Rotation {
    const NAME: &'static str = "rotate";
    type Facts = usize;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Who can log in to whom before anything is changed is what can be demanded afterwards.
    fn wish(&self) -> Wish {
        Wish { dials: true, ..to_plan() }
    }

    /// Servers that are named need themselves, and those that they are linked with.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        let topology = &session.inventory.topology;
        if self.servers.is_empty() {
            return session.require_all().map_err(|mut failure| {
                failure.diagnostics.extend(rotate::of_those_that_answer(topology, &session.observation));
                failure
            });
        }
        let needed = rotate::needed(topology, &session.observation, &self.servers);
        needed.iter().try_for_each(|name| session.require(name.as_str()))
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<usize>, Failure> {
        let topology = &session.inventory.topology;
        let servers = match self.servers.is_empty() {
            true => rotate::all(topology, &session.observation),
            false => self.servers.clone(),
        };
        let material = session.material_for(keys, Renewal::Of(&servers))?;
        let plan = rotate::plan_rotation(topology, &session.observation, &material, &servers);
        Ok(Proposal { plan: plan.map_err(runner::refused), facts: servers.len(), run: material.run })
    }

    fn question(&self, plan: &Plan, n_servers: &usize) -> Question {
        let servers = if *n_servers == 1 { "server" } else { "servers" };
        Question { gravity: Gravity::of(plan), change: format!("Give {n_servers} {servers} new certificates") }
    }
}

/// A new CA takes the place of the one in use.
struct Succession {
    is_dry_run: bool,
}

impl Operation for Succession {
    const NAME: &'static str = "rotate";
    type Facts = usize;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    fn wish(&self) -> Wish {
        Wish { dials: true, ..to_plan() }
    }

    fn keys(&self, session: &Session<'_>) -> Result<Keys, Failure> {
        session.keys_of_rotation()
    }

    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        session.require_all().map_err(|mut failure| {
            failure.diagnostics.push(succession::of_those_that_do_not_answer());
            failure
        })
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<usize>, Failure> {
        let topology = &session.inventory.topology;
        let servers = rotate::all(topology, &session.observation);
        let material = session.material_for(keys, Renewal::OfAuthority(&servers))?;
        let plan = succession::plan_succession(topology, &session.observation, &material);
        Ok(Proposal { plan: plan.map_err(runner::refused), facts: servers.len(), run: material.run })
    }

    fn question(&self, plan: &Plan, n_servers: &usize) -> Question {
        let servers = if *n_servers == 1 { "server" } else { "servers" };
        let change =
            format!("Replace the CA of topology {}, and the certificates of {n_servers} {servers}", plan.topology);
        Question { gravity: Gravity::of(plan), change }
    }

    /// No server needs the former CA any more: its key goes.
    fn done(&self, session: &Session<'_>, keys: &Keys) -> Result<(), Failure> {
        let Keys::Held(secrets) = keys else { return Ok(()) };
        let secrets = OperatorSecrets { former: None, ..OperatorSecrets::clone(secrets) };
        session.state.save_secrets(&secrets).map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))
    }
}

fn tell(view: &PlanView<'_>, told: &Told<usize>, ui: &Ui) -> Result<(), Failure> {
    match &told.report {
        None => tell_plan(view, ui),
        Some(report) => ui.answer(|look| report::render_run(report, look), || RunDocument::new(report)).map(drop),
    }
}
