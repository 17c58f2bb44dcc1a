//! What a step is. Each has its title, its server, its risk and its exact commands.

use std::path::PathBuf;

use crate::model::argv::Argv;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::model::topology::Link;

/// What a step may do to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Only looks.
    Read,
    /// Changes something that can be changed back.
    Reversible,
    /// Interrupts clients.
    Disruptive,
    /// Sets data aside, removes for good what was set aside, or lets go of WAL that is kept for a server.
    Destructive,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Where it is on the server.
    pub path: String,
    /// What it holds now; `None` when it is not there, or is not shown.
    pub before: Option<String>,
    /// What it will hold; `None` when it holds secrets and is not shown.
    pub after: Option<String>,
}

/// How a step is carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Commands on the step's server, one after the other in one execution; one of them may read standard input.
    Run(Vec<Argv>),
    /// Logs in to other servers anew, to see that it can, after certificates have changed.
    LogIn(Vec<Argv>),
    /// A base backup or a rewind.
    Copy(Box<Copying>),
    /// One server stops being the primary, and another becomes it.
    HandOver(Box<HandOver>),
    /// Transactions on the step's server that are under way come to their end, or are named.
    Drain {
        /// How long that may take, in seconds.
        timeout_s: u64,
    },
    /// A standby becomes the primary whose primary is fenced.
    Promote(Promotion),
    /// A row is written on the primary and must arrive on every standby over its proper link.
    ProveLinks {
        /// The server that accepts writes.
        primary: ServerName,
        /// The links to prove.
        links: Vec<Link>,
    },
    /// A server must show its new certificate to a connection that is opened anew.
    ProveServed {
        /// The server.
        server: ServerName,
        /// Names the certificate ([`crate::plan::Leaf::id`]).
        id: String,
    },
    /// A server must take certificates of the CA, or no more those of the former one, from whoever connects anew.
    ProveTrust {
        /// The server.
        server: ServerName,
        /// Which of the two.
        trust: Trust,
    },
    /// A program of the operator's, on the operator's machine.
    Hook(Hook),
}

/// What becomes of a server's trust while a CA takes the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It trusts the new CA.
    Gained,
    /// It trusts the former one no more.
    Lost,
}

/// A program of the operator's that runs around a change of the primary, on the operator's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The program.
    pub program: PathBuf,
    /// What it is told: names and values in its environment, beside what pgstead itself has.
    pub environment: Vec<(&'static str, String)>,
    /// How long it may take, in seconds; then it is ended.
    pub timeout_s: u64,
    /// Whether what comes behind goes on when it fails: there is no way back then. The run ends as failed all the same.
    pub may_fail: bool,
}

/// A planned change of the primary: the former one shuts down, and its successor is promoted when it has replayed the shutdown
/// checkpoint, and not before (hazard 62).
#[derive(Debug, Clone, PartialEq)]
pub struct HandOver {
    /// The primary until now.
    pub from: ServerName,
    /// Its successor.
    pub to: ServerName,
    /// On the former primary: shuts it down and prints its control file behind that.
    pub stop: Vec<Argv>,
    /// On the successor: promotes it, and does not wait.
    pub promote: Argv,
    /// How long the successor may stand still on its way to the shutdown checkpoint, in seconds.
    pub patience_s: u64,
    /// What takes it back where nothing was shut down: commands by server, in order.
    pub unmark: Vec<(ServerName, Vec<Argv>)>,
    /// What makes the former primary the primary again, where its successor cannot be promoted.
    pub undo: Vec<(ServerName, Vec<Argv>)>,
    /// On the former primary: what was told to shut down and hangs has ended behind this, and nothing is started.
    pub end: Vec<Argv>,
    /// What runs first of all, while clients can still write.
    pub before: Option<Hook>,
    /// What makes clients wait who come through PgBouncer, behind that: commands by server, all at once.
    pub pause: Vec<(ServerName, Vec<Argv>)>,
    /// What runs behind either of what takes it back.
    pub undone: Option<Hook>,
}

/// The promotion of a standby whose primary is dead and fenced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    /// The standby.
    pub server: ServerName,
    /// What promotes it, and does not wait.
    pub promote: Argv,
    /// The timeline that it replays; it must write a later one.
    pub timeline: u32,
    /// Other standbys that could be the successor, and what each had received when it was looked at: none of them may have
    /// received more by then (hazard 56).
    pub others: Vec<(ServerName, Option<Lsn>)>,
}

/// A base backup or a rewind.
#[derive(Debug, Clone, PartialEq)]
pub struct Copying {
    /// The commands on the standby; the last one copies.
    pub commands: Vec<Argv>,
    /// The server that sends.
    pub sender: ServerName,
    /// When it is given up for the sake of the upstream.
    pub room: Room,
    /// On the standby: prints how far it is, as phase, bytes done and bytes in all between tabs. None where the sender knows
    /// it (`pg_stat_progress_basebackup`).
    pub progress: Option<Argv>,
}

/// The room that an upstream keeps for WAL while a base backup is taken: the copy's slot holds WAL back, and an upstream
/// whose disk is full stops (hazard 23).
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// The upstream.
    pub server: ServerName,
    /// On the upstream: prints the bytes that are free, behind one line.
    pub look: Argv,
    /// Below this the copy is given up.
    pub floor_bytes: u64,
    /// On the standby: ends the copy whole.
    pub cancel: Vec<Argv>,
    /// On the upstream: drops the slot.
    pub release: Vec<Argv>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does, as a short sentence without the server's name.
    pub title: String,
    /// The server it changes; `None` when it is about several.
    pub server: Option<ServerName>,
    /// What it may do.
    pub risk: Risk,
    /// How it is carried out.
    pub action: Action,
    /// Its file changes, for the diff.
    pub files: Vec<FileChange>,
}

impl Step {
    /// Makes a step of commands without file changes.
    pub fn run(server: &ServerName, risk: Risk, title: impl Into<String>, commands: Vec<Argv>) -> Self {
        Self {
            title: title.into(),
            server: Some(server.clone()),
            risk,
            action: Action::Run(commands),
            files: Vec::new(),
        }
    }

    /// Makes the proof of links: a row written on the primary arrives over each.
    pub fn prove(primary: &ServerName, links: Vec<Link>) -> Self {
        let names: Vec<String> = links.iter().map(|link| format!("{} → {}", link.upstream, link.standby)).collect();
        Self {
            title: format!("prove {}: a row written on {primary} arrives", names.join(", ")),
            server: None,
            risk: Risk::Reversible,
            action: Action::ProveLinks { primary: primary.clone(), links },
            files: Vec::new(),
        }
    }

    /// Adds a command behind those of a step of commands.
    pub fn then(mut self, command: Option<Argv>) -> Self {
        if let Action::Run(commands) = &mut self.action {
            commands.extend(command);
        }
        self
    }

    /// Returns the commands on the step's server.
    pub fn commands(&self) -> &[Argv] {
        match &self.action {
            Action::Run(commands) | Action::LogIn(commands) => commands,
            Action::Copy(copying) => &copying.commands,
            Action::HandOver(hand_over) => &hand_over.stop,
            Action::Promote(promotion) => std::slice::from_ref(&promotion.promote),
            Action::Drain { .. }
            | Action::ProveLinks { .. }
            | Action::ProveServed { .. }
            | Action::ProveTrust { .. }
            | Action::Hook(_) => &[],
        }
    }
}
