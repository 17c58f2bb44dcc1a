//! Carries out one step on real servers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::apply::executor::{End, Leave, Work};
use crate::apply::lease::{Lease, NotDone};
use crate::diagnostic::{Code, Diagnostic, Failure, FailureKind};
use crate::event::{Event, Events};
use crate::model::argv::{Argv, Login};
use crate::model::name::ServerName;
use crate::plan::links::network;
use crate::plan::{Action, Copying, Room, Step, StepId, Trust};
use crate::prove::{Replayed, Sessions, Taken};
use crate::remote::{Host, LOOK};
use crate::wait::Look;
use crate::{pki, prove, wait};

/// How often the room of the upstream is looked at. Nothing tells of it by itself; a disk of a hundred gigabytes has five
/// to spare when the copy is given up.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// How long a reload may take until a server shows a new certificate.
const SERVED: Duration = Duration::from_secs(20);

/// What a run counts.
#[derive(Debug, Default)]
pub struct Tally {
    /// The bytes that copying jobs say that they received.
    pub transferred_bytes: AtomicU64,
    /// How long writes were unavailable while the primary changed, in microseconds; 0 if it did not change.
    pub write_downtime_us: AtomicU64,
    /// Whether it was at least that long, and nobody knows more.
    pub is_downtime_least: AtomicBool,
    /// Hooks that failed where there was no way back.
    pub hooks_failed: Mutex<Vec<Diagnostic>>,
}

impl Tally {
    /// Adds the hooks that failed where there was no way back: the work is done, and clients may not know of it.
    pub fn with_hooks(&self, failure: Option<Failure>) -> Option<Failure> {
        const HINT: &str =
            "The servers are as they should be. Do by hand what it should have done, or run it again by hand.";
        let hooks = std::mem::take(&mut *self.hooks_failed.lock().unwrap_or_else(PoisonError::into_inner));
        let hooks: Vec<Diagnostic> = hooks.into_iter().map(|hook| hook.hint(HINT)).collect();
        match failure {
            Some(mut failure) => {
                failure.diagnostics.extend(hooks);
                Some(failure)
            }
            None => (!hooks.is_empty()).then(|| Failure::all(FailureKind::StepFailed, hooks)),
        }
    }
}

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
    /// What is counted on the way.
    pub tally: &'a Tally,
    /// Where progress goes.
    pub events: &'a Events,
}

impl<H: Host> Work for Worker<'_, H> {
    async fn work(&self, id: StepId, step: &Step, leave: Leave) -> End {
        match &step.action {
            Action::Run(commands) | Action::LogIn(commands) => self.run(id, step, commands).await,
            Action::ProveLinks { primary, links } => {
                let tell = |replayed: Replayed| {
                    self.events.send(Event::StepProgress {
                        id: id.0,
                        phase: "replaying WAL".to_owned(),
                        done_bytes: replayed.done_bytes,
                        total_bytes: Some(replayed.total_bytes),
                        stalled: None,
                    });
                };
                match prove::prove_links(self.sessions, primary, links, prove::NEW_LINK, tell).await {
                    Ok(()) => End::Done,
                    Err(diagnostic) if diagnostic.code == Code::PostgresSocket => End::Unknown(diagnostic),
                    Err(diagnostic) => End::Failed(diagnostic),
                }
            }
            Action::Copy(copying) => self.copy(id, step, copying, leave).await,
            Action::HandOver(hand_over) => self.hand_over(id, hand_over).await,
            Action::Drain { timeout_s } => self.drain(id, step, *timeout_s).await,
            Action::Promote(promotion) => self.promote(promotion).await,
            Action::ProveServed { server, id } => self.serves(server, id).await,
            Action::ProveTrust { server, trust } => self.trusts(server, *trust).await,
            Action::Hook(hook) => self.hook(id, hook).await,
        }
    }
}

impl<H: Host> Worker<'_, H> {
    /// Looks until a server shows its new certificate: a reload takes a moment.
    async fn serves(&self, server: &ServerName, id: &str) -> End {
        let look = async || match self.sessions.served_anew(server).await.look() {
            Ok(Some(shown)) => match pki::parse_certificate(shown).map(|facts| facts.id()) {
                Ok(shown) if shown == id => Look::Ready(()),
                Ok(shown) => Look::NotYet(format!("It shows that of SHA-256 {shown}….")),
                Err(error) => Look::NotYet(format!("It shows what is no certificate: {error}.")),
            },
            Ok(None) => Look::NotYet("It shows none.".to_owned()),
            Err(why) => Look::NotYet(why.to_owned()),
        };
        match wait::until(SERVED, wait::LOOK_AGAIN, look).await {
            Ok(()) => End::Done,
            Err(seen) => End::Failed(Box::new(
                Diagnostic::error(
                    Code::CertificateNotServed,
                    format!("server \"{server}\" does not serve its new certificate"),
                )
                .server(server)
                .detail(format!("Its SHA-256 begins with {id}. {seen}"))
                .hint("Its files are new, it still serves the old ones; its log says why. When its log is clean: pgstead bootstrap, then the same command again. The servers that come after it were not touched."),
            )),
        }
    }
}

impl<H: Host> Worker<'_, H> {
    /// Looks until a server takes certificates of the CA, or those of the former one no more: a reload takes a moment.
    async fn trusts(&self, server: &ServerName, trust: Trust) -> End {
        let look = async || match (self.sessions.takes(server, trust).await, trust) {
            (Ok(Taken::Yes), Trust::Gained) | (Ok(Taken::No(_)), Trust::Lost) => Look::Ready(()),
            (Ok(Taken::Yes), Trust::Lost) => Look::NotYet("It let one in.".to_owned()),
            (Ok(Taken::No(alert)), Trust::Gained) => Look::NotYet(format!("Its TLS alert: {alert}.")),
            (Err(why), _) => Look::NotYet(prove::explain(&why)),
        };
        let what = match trust {
            Trust::Gained => "does not take certificates of the new CA",
            Trust::Lost => "still takes certificates of the former CA",
        };
        match wait::until(SERVED, wait::LOOK_AGAIN, look).await {
            Ok(()) => End::Done,
            Err(seen) => End::Failed(Box::new(
                Diagnostic::error(Code::AuthorityNotInForce, format!("server \"{server}\" {what}"))
                    .server(server)
                    .detail(seen)
                    .hint("It has the file, and was told to read it; its log says why it did not. When that is mended, run the same command again: it goes on from here."),
            )),
        }
    }
}

/// What to do where a server cannot log in to another with what is new: nothing is done again by itself.
const NOT_LOGGED_IN: &str = "Fix what the DETAIL says. If a record is missing in pg_hba.conf, run \"pgstead bootstrap\" first. Then run the same command again.";

/// What to do where a server is turned away because it comes from another address than it has.
fn not_admitted_hint(server: &ServerName, ip: IpAddr) -> String {
    format!(
        "Connections from \"{server}\" arrive from {ip}: something on the way translates the address. Run the command again: the servers then tell each other what they see, and {ip} is admitted. That needs perl on them."
    )
}

/// Returns what a job says that it received; where no card counts, as on one machine, what the last line of progress of
/// `pg_basebackup` or `pg_rewind` says, such as `30936/30936 kB (100%)`.
fn copied_bytes(said: &str) -> u64 {
    let received = |line: &str| line.strip_prefix("received ")?.strip_suffix(" bytes")?.parse().ok();
    if let Some(bytes) = said.lines().rev().find_map(received) {
        return bytes;
    }
    let of_line = |line: &str| {
        let (done, _) = line.trim().split_once('/')?;
        let kilobytes: u64 = line.contains(" kB (").then(|| done.trim().parse().ok()).flatten()?;
        kilobytes.checked_mul(1024)
    };
    said.lines().rev().find_map(of_line).unwrap_or_default()
}

/// Whether a job ended because its disk is full: glibc's words for ENOSPC, which scripts get in English.
fn is_disk_full(failed: &Diagnostic) -> bool {
    failed.detail.as_deref().is_some_and(|detail| detail.contains("No space left on device"))
}

impl<H: Host> Worker<'_, H> {
    /// Copies, tells how far the copy is, and watches the room that its upstream has: whichever ends first ends the step.
    async fn copy(&self, id: StepId, step: &Step, copying: &Copying, mut leave: Leave) -> End {
        let Copying { commands, sender, room, progress } = copying;
        let mut copy = pin!(self.run(id, step, commands));
        let mut progress = pin!(self.report_progress(id, step, sender, progress.as_ref()));
        let mut short = pin!(self.room_is_short(room));
        let mut is_told = true;
        loop {
            tokio::select! {
                biased;
                end = &mut copy => return match end {
                    End::Failed(failed) if is_disk_full(&failed) => self.release_slot(room, failed).await,
                    end => end,
                },
                free_bytes = &mut short => return self.give_up(step, room, free_bytes).await,
                // The job is the server's own: the next run finds it.
                _ = leave.wait_for(|leave| *leave) => return End::LeftRunning,
                // Progress is a courtesy: where it cannot be asked, the copy goes on alone.
                () = &mut progress, if is_told => is_told = false,
            }
        }
    }

    /// Looks at the room for WAL until there is too little, and returns the free bytes then. Where it cannot look, it never
    /// ends: what else is wrong there is told by the copy itself.
    async fn room_is_short(&self, room: &Room) -> u64 {
        let upstream = &room.server;
        let (Some(Ok(host)), Some(login)) = (self.hosts.get(upstream), self.logins.get(upstream)) else {
            return std::future::pending().await;
        };
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let look = wait::until(forever, ROOM_EVERY, async || {
            let free_bytes = match host.run_within(LOOK, std::slice::from_ref(&room.look), login).await {
                Ok(output) => output.text().lines().last().and_then(|line| line.trim().parse::<u64>().ok()),
                Err(_) => None,
            };
            match free_bytes {
                Some(free_bytes) if free_bytes < room.floor_bytes => Look::Ready(free_bytes),
                _ => Look::NotYet("there is room".to_owned()),
            }
        });
        match look.await {
            Ok(free_bytes) => free_bytes,
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends a copy for the sake of its upstream: first there, where room is short and the slot holds WAL back.
    async fn give_up(&self, step: &Step, room: &Room, free_bytes: u64) -> End {
        let upstream = &room.server;
        let mut troubles = String::new();
        for (server, commands) in [(Some(upstream), &room.release), (step.server.as_ref(), &room.cancel)] {
            let Some((name, Ok(host), login)) =
                server.and_then(|name| Some((name, self.hosts.get(name)?, self.logins.get(name)?)))
            else {
                continue;
            };
            match self.lease.run(host, commands, login).await {
                Ok(_) => {}
                Err(NotDone::Lost(diagnostic)) => return End::Failed(diagnostic),
                Err(NotDone::Failed(error)) => troubles.push_str(&format!(" On \"{name}\" that failed: {error}.")),
            }
        }
        End::Failed(Box::new(
            Diagnostic::error(
                Code::UpstreamRoomShort,
                format!("server \"{upstream}\" was about to run out of room for WAL: the base backup was given up"),
            )
            .server(upstream)
            .detail(format!(
                "{} MB were free, fewer than {} MB. Its slot was dropped, so that \"{upstream}\" can recycle WAL, and the job was ended.{troubles}",
                free_bytes >> 20,
                room.floor_bytes >> 20,
            ))
            .hint("Make room there, or run again when less is written."),
        ))
    }

    /// Drops the slot of a copy that found no room: until somebody makes room it would hold WAL back for nobody.
    async fn release_slot(&self, room: &Room, mut failed: Box<Diagnostic>) -> End {
        let upstream = &room.server;
        let (Some(Ok(host)), Some(login)) = (self.hosts.get(upstream), self.logins.get(upstream)) else {
            return End::Failed(failed);
        };
        let told = match self.lease.run(host, &room.release, login).await {
            Ok(_) => format!("Its slot on \"{upstream}\" was dropped, so that it holds no WAL back. "),
            Err(NotDone::Lost(diagnostic)) => return End::Failed(diagnostic),
            Err(NotDone::Failed(error)) => {
                format!("Its slot on \"{upstream}\" holds WAL back, and could not be dropped: {error}. ")
            }
        };
        failed.detail = Some(told + failed.detail.as_deref().unwrap_or_default());
        failed.hint = Some("Make room there, and run the same command again.".to_owned());
        End::Failed(failed)
    }

    async fn run(&self, id: StepId, step: &Step, commands: &[Argv]) -> End {
        let no_server =
            || End::Failed(Box::new(Diagnostic::error(Code::NoConnection, "a step has no server to run on")));
        let Some(name) = step.server.as_ref() else { return no_server() };
        let (Some(Ok(host)), Some(login)) = (self.hosts.get(name), self.logins.get(name)) else { return no_server() };
        match self.lease.run(host, commands, login).await {
            Ok(output) => {
                for text in output.text().lines().filter_map(|line| line.strip_prefix("warning: ")) {
                    self.events.send(Event::StepWarned { id: id.0, text: text.to_owned() });
                }
                if matches!(step.action, Action::Copy(_)) {
                    self.tally.transferred_bytes.fetch_add(copied_bytes(&output.text()), Ordering::Relaxed);
                }
                End::Done
            }
            Err(NotDone::Lost(diagnostic)) => End::NotBegun(diagnostic),
            Err(NotDone::Failed(error)) => {
                let is_unknown = error.outcome_is_unknown();
                let mut diagnostic = error.diagnostic();
                diagnostic.message = format!("server \"{name}\": could not {}", step.title);
                if matches!(step.action, Action::LogIn(_)) {
                    diagnostic.hint = Some(NOT_LOGGED_IN.to_owned());
                } else if let Some(ip) = diagnostic.detail.as_deref().and_then(network::not_admitted) {
                    let Diagnostic { message, detail, command, .. } = diagnostic;
                    let turned_away = Diagnostic::error(Code::AddressNotAdmitted, message).server(name);
                    let hint = Some(not_admitted_hint(name, ip));
                    diagnostic = Diagnostic { detail, command, hint, ..turned_away };
                }
                // Whatever it was: what is done is not done again.
                diagnostic.hint.get_or_insert_with(|| {
                    "When that is mended, run the same command again: it does only what is missing.".to_owned()
                });
                if is_unknown { End::Unknown(Box::new(diagnostic)) } else { End::Failed(Box::new(diagnostic)) }
            }
        }
    }
}
