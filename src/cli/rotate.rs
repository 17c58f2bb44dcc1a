//! `rotate`: servers get new certificates, each proven before the next is touched; roles get other passwords.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};

use super::exit::Exit;
use super::globals::Globals;
use super::plan::tell_plan;
use super::runner::{Operation, Proposal, Told};
use super::session::{Session, to_plan};
use super::{inventory, runner};
use crate::diagnostic::{Failure, FailureKind};
use crate::judge;
use crate::model::name::ServerName;
use crate::observe::probe::Wish;
use crate::pki::{OperatorSecrets, RolePassword};
use crate::plan::operation::rotate::{Renewal, succession};
use crate::plan::operation::{reseed, rotate};
use crate::plan::survey::authority::Keys;
use crate::plan::survey::password;
use crate::plan::{Material, Plan};
use crate::render::hba::roles;
use crate::state::{StateDir, StateError};
use crate::ui::ask::{Gravity, Question};
use crate::ui::json::RunDocument;
use crate::ui::plan::PlanView;
use crate::ui::{Ui, report};

/// Give servers new certificates or roles new passwords, and prove that they serve
///
/// Certificates: one server after the other, the primary last. Certificate and key change in one rename; the instance reads them by
/// a reload, and no session ends. Then a connection that is opened anew must be shown the new certificate, and the server and every
/// other must log in to each other anew, before the next server is touched.
///
/// Passwords: the primary gets the verifier of a new password, then every server the password for its connection to its upstream, and
/// each must log in to the others anew.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead rotate certificates            all servers, after showing the plan and asking
  pgstead rotate certificates b c        these alone
  pgstead rotate certificates --dry-run  show the plan alone
  pgstead rotate passwords               the password of role replicator
  pgstead rotate passwords app           that of the role of an application")]
pub(super) struct RotateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Certificates(CertificatesArgs),
    Passwords(PasswordsArgs),
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

/// Make new passwords for roles whose password pgstead makes
///
/// Without a name it is the password of role replicator, where replication logs in by password (replication.authentication:
/// scram-sha-256). With names it is those of application roles that have "password: generated" in postgres.roles; a file or program
/// gives the others, and "pgstead bootstrap" brings what is new there.
///
/// Servers receive a verifier, never the password, but for the file from which a standby logs in to its upstream. No session ends:
/// sessions that are open go on, and whoever comes anew needs the new password. A new password of an application is kept in the
/// state directory; give it to the application. A run that was interrupted is finished by the same command, which makes another one
/// once more.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead rotate passwords            that of role replicator, after showing the plan and asking
  pgstead rotate passwords app        that of the role of an application
  pgstead rotate passwords --dry-run  show the plan alone")]
struct PasswordsArgs {
    /// The roles; role replicator where none is named
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
    /// Show the plan and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(globals: &Globals, args: &RotateArgs, ui: &Ui) -> Result<Exit, Failure> {
    match &args.what {
        What::Certificates(args) => certificates(globals, args, ui),
        What::Passwords(args) => passwords(globals, args, ui),
    }
}

fn passwords(globals: &Globals, args: &PasswordsArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let meant = rotate::passwords::meant(&inventory.topology, &args.roles).map_err(runner::refused)?;
    let replacement = Replacement { meant, is_dry_run: args.dry_run };
    Ok(runner::run(&replacement, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

fn certificates(globals: &Globals, args: &CertificatesArgs, ui: &Ui) -> Result<Exit, Failure> {
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

/// Roles get other passwords.
struct Replacement {
    meant: BTreeSet<String>,
    is_dry_run: bool,
}

impl Replacement {
    fn with_replicator(&self) -> bool {
        self.meant.contains(roles::REPLICATOR)
    }
}

impl Operation for Replacement {
    const NAME: &'static str = "rotate";
    /// The new passwords of roles of applications.
    type Facts = BTreeMap<String, RolePassword>;

    fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Who can log in to whom before anything is changed is what can be demanded afterwards.
    fn wish(&self) -> Wish {
        Wish { dials: self.with_replicator(), ..to_plan() }
    }

    fn keys(&self, session: &Session<'_>) -> Result<Keys, Failure> {
        let keys = session.keys()?;
        Ok(match keys {
            Keys::Held(secrets) if self.with_replicator() => {
                let topology = &session.inventory.topology;
                let in_use = password::in_use(topology, &session.observation, &secrets).clone();
                Keys::Held(Box::new(secrets.with_another_password(in_use)))
            }
            keys => keys,
        })
    }

    /// A server that is down gets the new password later; the primary must be there.
    fn require(&self, session: &Session<'_>) -> Result<(), Failure> {
        let primary = judge::primary(&session.inventory.topology, &session.observation);
        // Where no primary answers, one that cannot be reached may be it.
        primary.map_or_else(|| session.require_all(), |_| Ok(()))
    }

    fn keep(&self, made: &Self::Facts, state: &StateDir) -> Result<(), StateError> {
        made.iter().try_for_each(|(role, made)| state.save_role_password(role, &made.password))
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure> {
        let topology = &session.inventory.topology;
        let applications = self.meant.iter().filter(|role| *role != roles::REPLICATOR);
        let made: Self::Facts = applications.map(|role| (role.clone(), RolePassword::generate())).collect();
        let material = Material { passwords: made.clone(), ..session.material(keys)? };
        let plan = rotate::passwords::plan_passwords(topology, &session.observation, &material, &self.meant);
        Ok(Proposal { plan: plan.map_err(runner::refused), facts: made, run: material.run })
    }

    /// No server needs the former password any more.
    fn done(&self, session: &Session<'_>, keys: &Keys) -> Result<(), Failure> {
        let applications = self.meant.iter().filter(|role| *role != roles::REPLICATOR);
        let mut forgotten =
            applications.into_iter().try_for_each(|role| session.state.forget_former_role_password(role));
        if let (Keys::Held(secrets), true) = (keys, self.with_replicator()) {
            let secrets = OperatorSecrets { former_password: None, ..OperatorSecrets::clone(secrets) };
            forgotten = forgotten.and_then(|()| session.state.save_secrets(&secrets));
        }
        forgotten.map_err(|error| Failure::one(FailureKind::StepFailed, error.diagnostic()))
    }

    fn question(&self, plan: &Plan, _: &Self::Facts) -> Question {
        let names: Vec<&str> = self.meant.iter().map(String::as_str).collect();
        let (role, another) =
            if names.len() == 1 { ("role", "another password") } else { ("roles", "other passwords") };
        Question { gravity: Gravity::of(plan), change: format!("Give {role} {} {another}", names.join(", ")) }
    }
}

fn tell<F>(view: &PlanView<'_>, told: &Told<F>, ui: &Ui) -> Result<(), Failure> {
    match &told.report {
        None => tell_plan(view, ui),
        Some(report) => ui.answer(|look| report::render_run(report, look), || RunDocument::new(report)).map(drop),
    }
}
