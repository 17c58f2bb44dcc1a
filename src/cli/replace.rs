//! `replace`: new hardware under the name of a server. Its new host key is taken on consent, the former one leaves with it; then the
//! server is bootstrapped.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;

use super::bootstrap::{Bootstrap, WithoutArgs, propose_with, tell};
use super::exit::Exit;
use super::globals::Globals;
use super::host_key::Exchange;
use super::inventory::Inventory;
use super::runner::{Operation, Proposal};
use super::session::{Away, Session, to_plan};
use super::{inventory, runner};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::Events;
use crate::judge::State;
use crate::model::name::ServerName;
use crate::model::secret::Secret;
use crate::model::topology::Link;
use crate::plan::operation::replace;
use crate::plan::survey::authority::Keys;
use crate::plan::{Consent, Plan};
use crate::state::{StateDir, StateError};
use crate::ui::Ui;
use crate::ui::ask::{Gravity, Question};
use crate::ui::plan::PlanView;

/// Put new hardware in the place of a standby, under its name
///
/// For a standby on a new machine, or on one that was installed anew, with nothing on its disk. Does it have a new address? Change
/// that in the inventory first. pgstead shows the recorded SSH host key and the strongest one that the machine has now. When you
/// agree, the new key replaces the recorded one. --host-key names it without a question; --yes alone never accepts a key. The rest is
/// done as by bootstrap: the others let the server in under its new address, a base backup is taken, and its link is proven. Its slot
/// keeps WAL for it meanwhile. pgstead refuses to replace the primary, and a server that others receive WAL from. It never overwrites
/// a data directory. After an interruption, run the same command again.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:
  pgstead replace c                              show the new host key, ask; show the plan, ask
  pgstead replace c --host-key SHA256:… --yes    the key that its console shows, and no questions
  pgstead replace c --without d                  server d is down for now: work on the others")]
pub(super) struct ReplaceArgs {
    /// The server
    #[arg(value_name = "SERVER")]
    server: String,
    /// Take this host key, as its console shows it, without asking; --yes does not stand for it (repeatable)
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    host_key: Vec<String>,
    #[command(flatten)]
    without: WithoutArgs,
    /// Show the plan and change nothing; its host key must be recorded for that
    #[arg(long)]
    dry_run: bool,
}

/// As `ssh-keygen -l` shows it: whoever types another one should not read that the server is a stranger.
fn fingerprint(word: &str) -> Result<String, String> {
    let is_base64 = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte));
    let hash = word.strip_prefix("SHA256:").map(|hash| hash.trim_end_matches('='));
    match hash {
        Some(hash) if hash.len() == 43 && is_base64(hash) => Ok(["SHA256:", hash].concat()),
        _ => Err("a fingerprint is \"SHA256:\" and 43 characters, as \"ssh-keygen -lf\" shows it".to_owned()),
    }
}

pub(super) fn run(globals: &Globals, args: &ReplaceArgs, ui: &Ui) -> Result<Exit, Failure> {
    let inventory = inventory::load(globals, ui)?;
    let server = inventory.server(&args.server)?.clone();
    let left_out = args.without.find(&inventory.topology)?;
    if left_out.contains(&server) {
        let message = format!("server \"{server}\" is to be replaced, and cannot be left out");
        return Err(Failure::one(FailureKind::Refused, Diagnostic::error(Code::Usage, message)));
    }
    let bootstrap = Bootstrap { is_dry_run: args.dry_run, consent: Consent::default(), left_out };
    let replacement = Replacement { server, host_keys: &args.host_key, bootstrap };
    Ok(runner::run(&replacement, &inventory, ui, |view, told| tell(view, told, ui))?.exit())
}

/// New hardware takes the place of a server.
struct Replacement<'a> {
    server: ServerName,
    host_keys: &'a [String],
    bootstrap: Bootstrap,
}

impl Operation for Replacement<'_> {
    const NAME: &'static str = "replace";
    /// The passwords that were made for roles of applications.
    type Facts = BTreeMap<String, Secret>;

    fn is_dry_run(&self) -> bool {
        self.bootstrap.is_dry_run
    }

    fn left_out(&self) -> BTreeSet<ServerName> {
        self.bootstrap.left_out()
    }

    /// Asks the others first: while the server is needed as it was, no other machine is believed to be it.
    async fn prepare(&self, inventory: &Inventory, ui: &Ui) -> Result<(), Failure> {
        let topology = &inventory.topology;
        let mut left_out = self.left_out();
        left_out.insert(self.server.clone());
        let away = Away { left_out, ..Away::default() };
        let session = Session::open_despite(inventory, to_plan(), Events::silent(), away).await?;
        let judged = session.require_all().and_then(|()| {
            replace::judge_before(topology, &session.observation, &self.server).map_err(runner::refused)
        });
        session.close().await;
        let former = judged?;
        let Some(server) = topology.server(&self.server) else { return Ok(()) };
        let (named, is_dry_run) = (self.host_keys, self.bootstrap.is_dry_run);
        Exchange { inventory, server, former: &former, named, is_dry_run }.take(ui).await
    }

    fn keep(&self, made: &Self::Facts, state: &StateDir) -> Result<(), StateError> {
        self.bootstrap.keep(made, state)
    }

    async fn propose(&self, session: &mut Session<'_>, keys: &Keys) -> Result<Proposal<Self::Facts>, Failure> {
        propose_with(session, keys, self.bootstrap.consent, |topology, observation, material| {
            replace::plan_replacement(topology, observation, material, &self.server)
        })
        .await
    }

    fn explanation(&self, proposal: &Proposal<Self::Facts>, view: &PlanView<'_>, ui: &Ui) -> Option<String> {
        self.bootstrap.explanation(proposal, view, ui)
    }

    fn question(&self, plan: &Plan, _: &Self::Facts) -> Question {
        let change = format!("Replace \"{}\": {} steps", self.server, plan.steps.len());
        Question { gravity: Gravity::of(plan), change }
    }

    fn confirms(&self, state: &State<'_>, link: &Link) -> bool {
        self.bootstrap.confirms(state, link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_that_of_ssh_keygen() {
        let good = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        assert_eq!(fingerprint(good).as_deref(), Ok(good));
        assert_eq!(fingerprint(&[good, "="].concat()).as_deref(), Ok(good));
        for bad in ["", "SHA256:", "MD5:16:27:ac:a5", &good[7..], &[good, "x"].concat()] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }
}
