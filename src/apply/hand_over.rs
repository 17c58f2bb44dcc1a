//! Carries a planned change of the primary out: down, proven, up. Whatever fails before the promotion is undone here, as the
//! plan says; after it nothing is.
//!
//! It is one step, since nobody can write meanwhile: each word between two servers goes over a connection that is open
//! (performance.md, section 4), and nothing is decided here but whether the shutdown checkpoint has arrived.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};

use crate::apply::Worker;
#[cfg(debug_assertions)]
use crate::apply::crash;
use crate::apply::executor::End;
use crate::apply::hook;
use crate::apply::lease::NotDone;
use crate::diagnostic::{Code, Diagnostic};
use crate::event::Event;
use crate::model::argv::{Argv, Login, RunAs};
use crate::model::control::ClusterState;
use crate::model::lsn::Lsn;
use crate::model::name::ServerName;
use crate::observe::parse::parse_control;
use crate::plan::{HandOver, Hook, Promotion, StepId};
use crate::postgres::{Client, PostgresError};
use crate::remote::{Host, RemoteError};
use crate::wait;
use crate::wait::Look;

/// How often the successor is asked how far it is. It tells nobody by itself, and clients wait for the answer.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// How long a promotion may stand still: it replays what was received, ends recovery, and writes little.
const PROMOTION: Duration = Duration::from_secs(60);

/// Where the former primary's WAL ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token {
    timeline: u32,
    checkpoint: Lsn,
    /// For how long nobody can write by now, by the server's own clock.
    since: Duration,
    /// Whether that is the least: an earlier run has shut it down, and what is known is when it had ended.
    is_least: bool,
}

impl<H: Host> Worker<'_, H> {
    /// Hands over from one server to another.
    pub(super) async fn hand_over(&self, id: StepId, wish: &HandOver) -> End {
        let HandOver { from, to, .. } = wish;
        if let Some(hook) = &wish.before
            && let Err(diagnostic) = hook::run(hook).await
        {
            return self.undone(wish, &wish.unmark, id, *diagnostic).await;
        }
        // The session is opened while clients can still write.
        let successor = match self.sessions.session(to).await {
            Ok(session) => session,
            Err(diagnostic) => return self.undone(wish, &wish.unmark, id, *diagnostic).await,
        };
        if let Err(not_done) = self.still_holds(to).await {
            return self.undone(wish, &wish.unmark, id, not_done).await;
        }
        let paused = Instant::now();
        if let Err(diagnostic) = self.pause(wish).await {
            return self.undone(wish, &wish.unmark, id, diagnostic).await;
        }
        let waited = paused.elapsed();
        let stopped = self.on(from, &wish.stop).await;
        let heard = Instant::now();
        let token = match stopped {
            Ok(output) => token(from, &output),
            Err(NotDone::Lost(diagnostic)) => return End::NotBegun(diagnostic),
            Err(NotDone::Failed(error @ RemoteError::Command { .. })) => {
                let Diagnostic { detail, command, .. } = error.diagnostic();
                let message = format!("server \"{from}\" did not shut down in order");
                Err(Diagnostic { detail, command, ..Diagnostic::error(Code::ShutdownFailed, message).server(from) })
            }
            // Nobody knows what became of it: it is neither taken for stopped nor started.
            Err(NotDone::Failed(error)) => {
                let mut diagnostic = error.diagnostic();
                diagnostic.message = format!("server \"{from}\": could not see whether it has shut down");
                diagnostic.hint = Some(format!(
                    "Nobody was promoted. When \"{from}\" answers, run the same command again to finish, or take it back: pgstead switchover --abort"
                ));
                return End::Unknown(Box::new(diagnostic));
            }
        };
        let token = match token {
            Ok(token) => token,
            Err(trouble) => return self.taken_back(wish, &successor, id, trouble).await,
        };
        #[cfg(debug_assertions)]
        crash::at(crash::STOPPED);
        if let Err(trouble) = arrived(&successor, wish, token).await {
            return self.taken_back(wish, &successor, id, trouble).await;
        }
        let end = self.promoted(&successor, to, &wish.promote, token.timeline, "switchover").await;
        if matches!(end, End::Done) {
            let waited = if wish.pause.is_empty() { Duration::ZERO } else { waited };
            let took = waited + token.since + heard.elapsed();
            let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            self.tally.write_downtime_us.store(us.max(1), Ordering::Relaxed);
            self.tally.is_downtime_least.store(token.is_least, Ordering::Relaxed);
            #[cfg(debug_assertions)]
            crash::at(crash::PROMOTED);
        }
        end
    }

    /// Makes the clients wait that come through PgBouncer.
    async fn pause(&self, wish: &HandOver) -> Result<(), Diagnostic> {
        let told = wish.pause.iter().map(async |(server, commands)| (server, self.on(server, commands).await));
        let failed = join_all(told).await.into_iter().find_map(|(server, told)| Some((server, told.err()?)));
        let Some((server, why)) = failed else { return Ok(()) };
        let message = format!("the clients of PgBouncer on \"{server}\" could not be made to wait");
        let told = Diagnostic::error(Code::PoolerNotPaused, message).server(server);
        Err(match why {
            NotDone::Lost(diagnostic) => *diagnostic,
            NotDone::Failed(error) => {
                let Diagnostic { detail, command, .. } = error.diagnostic();
                Diagnostic { detail, command, ..told }
            }
        })
    }

    /// Promotes a standby whose primary is fenced. All that it has received it replays before it accepts writes.
    pub(super) async fn promote(&self, wish: &Promotion) -> End {
        let Promotion { server, promote, timeline, others } = wish;
        let successor = match self.sessions.session(server).await {
            Ok(session) => session,
            Err(diagnostic) => return End::Failed(diagnostic),
        };
        if let Err(diagnostic) = self.is_ahead(server, &successor, others).await {
            return End::Failed(Box::new(diagnostic));
        }
        self.promoted(&successor, server, promote, *timeline, "failover").await
    }

    /// Promotes a standby while this run holds its lock, and waits until it accepts writes, on a timeline of its own (hazard 58).
    ///
    /// Whether the run holds it is judged by the server, and its own clock, in the act itself: nobody knows how long the machine
    /// that asks has slept (docs/adr/0021-a-promotion-asks-the-lease.md).
    async fn promoted(&self, successor: &Client, to: &ServerName, promote: &Argv, before: u32, command: &str) -> End {
        let done = match self.way(to) {
            Ok((host, login)) => self.lease.run_held(host, promote, login).await,
            Err(no_way) => Err(no_way),
        };
        match done {
            Ok(_) => accepts_writes(successor, to, before, command).await,
            Err(NotDone::Lost(_)) => End::NotBegun(Box::new(overtaken(command, to))),
            Err(NotDone::Failed(error)) => {
                let Diagnostic { message, detail, .. } = error.diagnostic();
                promotion_unknown(to, command, [&message, ": ", detail.as_deref().unwrap_or_default()].concat())
            }
        }
    }

    /// Sees that no other standby has received more than the successor: what was still on its way when the former primary was
    /// fenced has arrived by now (hazard 56). One that does not answer any more has at least what it had when it was looked at.
    async fn is_ahead(
        &self,
        to: &ServerName,
        successor: &Client,
        others: &[(ServerName, Option<Lsn>)],
    ) -> Result<(), Diagnostic> {
        let received = async |session: &Client| {
            let state = session.replayed().await.ok()?;
            state.receive_lsn.max(state.replay_lsn)
        };
        let now = async |name| received(&*self.sessions.session(name).await.ok()?).await;
        let looks = others.iter().map(async |(name, seen)| (name, *seen, now(name).await));
        let (own, others) = join(received(successor), join_all(looks)).await;
        refuse_behind(to, own, others)
    }

    /// Runs a program of the operator's. Where there is no way back its failure is kept for the end of the run.
    pub(super) async fn hook(&self, id: StepId, hook: &Hook) -> End {
        match hook::run(hook).await {
            Ok(()) => End::Done,
            Err(diagnostic) if hook.may_fail => {
                self.events.send(Event::StepWarned { id: id.0, text: diagnostic.message.clone() });
                self.tally.hooks_failed.lock().unwrap_or_else(PoisonError::into_inner).push(*diagnostic);
                End::Done
            }
            Err(diagnostic) => End::Failed(Box::new(
                diagnostic.hint("Nobody was promoted. When it is mended, run the same command again; or take it out of the inventory (hooks.before), and do by hand what it should do."),
            )),
        }
    }

    /// Asks a server whether this run still holds its lock; the promotion itself goes over a session, past the lock.
    async fn still_holds(&self, server: &ServerName) -> Result<(), Diagnostic> {
        match self.on(server, &[Argv::new(RunAs::Login, "true")]).await {
            Ok(_) => Ok(()),
            Err(NotDone::Lost(diagnostic)) => Err(*diagnostic),
            Err(NotDone::Failed(error)) => Err(error.diagnostic()),
        }
    }

    /// Runs commands on a server while this run holds its lock.
    async fn on(&self, server: &ServerName, commands: &[Argv]) -> Result<String, NotDone> {
        let (host, login) = self.way(server)?;
        self.lease.run(host, commands, login).await.map(|output| output.text())
    }

    fn way(&self, server: &ServerName) -> Result<(&H, &Login), NotDone> {
        if let (Some(Ok(host)), Some(login)) = (self.hosts.get(server), self.logins.get(server)) {
            return Ok((host, login));
        }
        let message = format!("server \"{server}\": there is no connection to it");
        Err(NotDone::Lost(Box::new(Diagnostic::error(Code::NoConnection, message).server(server))))
    }

    /// Takes back what shut the former primary down, unless its successor answers that it accepts writes: somebody promoted it
    /// meanwhile, past this run. The former primary's start guard asks, too, and may reach nobody; this run is another way to the
    /// successor. Silence of both stays what it was: the run promoted nobody.
    async fn taken_back(&self, wish: &HandOver, successor: &Client, id: StepId, why: Diagnostic) -> End {
        let timeline = match successor.is_closed() {
            false => timeline_written(successor).await,
            true => match self.sessions.session(&wish.to).await {
                Ok(anew) => timeline_written(&anew).await,
                Err(_) => None,
            },
        };
        match timeline {
            None => self.undone(wish, &wish.undo, id, why).await,
            Some(timeline) => {
                // What hangs in its shutdown would be neither up nor down for whoever comes next.
                let ended = self.on(&wish.from, &wish.end).await;
                End::Failed(Box::new(promoted_by_others(wish, timeline, &why, ended.is_ok())))
            }
        }
    }

    /// Makes the former primary the primary again, and says why. Where a lease is lost, on either server, another run may have
    /// made somebody the primary: then nothing is taken back.
    async fn undone(&self, wish: &HandOver, undo: &[(ServerName, Vec<Argv>)], id: StepId, why: Diagnostic) -> End {
        let from = &wish.from;
        #[cfg(debug_assertions)]
        crash::at(crash::UNDOING);
        if !self.lease.all_lost().is_empty() {
            return End::Failed(Box::new(overtaken("switchover", &wish.to)));
        }
        let text = format!("\"{from}\" is made the primary again");
        self.events.send(Event::StepWarned { id: id.0, text });
        let mut troubles = String::new();
        for (server, commands) in undo {
            if let Err(not_done) = self.on(server, commands).await {
                let why = match not_done {
                    NotDone::Lost(diagnostic) if diagnostic.code == Code::LeaseLost => {
                        return End::Failed(Box::new(overtaken("switchover", &wish.to)));
                    }
                    NotDone::Lost(diagnostic) => diagnostic.message,
                    NotDone::Failed(error) => {
                        let detail = error.diagnostic().detail.unwrap_or_default();
                        format!("{error}: {}", detail.trim())
                    }
                };
                troubles.push_str(&format!(" On \"{server}\" that failed: {why}."));
            }
        }
        if let Some(hook) = &wish.undone {
            self.hook(id, hook).await;
        }
        let (end, hint) = match troubles.is_empty() {
            true => (
                format!("Nobody was promoted; \"{from}\" was made the primary again."),
                "When the cause is mended, run the same command again.",
            ),
            false => (
                format!("This run promoted nobody, and \"{from}\" should have been made the primary again.{troubles}"),
                "To make it the primary again: pgstead switchover --abort",
            ),
        };
        let detail = [why.detail.as_deref().unwrap_or_default().trim(), &end].join(" ");
        End::Failed(Box::new(why.detail(detail.trim().to_owned()).hint(hint)))
    }
}

/// Refuses a successor that has received less than another standby: of each, what it had received when it was looked at before,
/// and what it answers now.
fn refuse_behind<'a>(
    to: &ServerName,
    own: Option<Lsn>,
    others: impl IntoIterator<Item = (&'a ServerName, Option<Lsn>, Option<Lsn>)>,
) -> Result<(), Diagnostic> {
    let received = others.into_iter().filter_map(|(name, seen, now)| Some((name, now.max(seen)?)));
    let Some((other, lsn)) = received.max_by_key(|(_, lsn)| *lsn).filter(|(_, lsn)| Some(*lsn) > own) else {
        return Ok(());
    };
    let own = own.map_or("nothing".to_owned(), |lsn| format!("WAL up to {lsn}"));
    Err(Diagnostic::error(Code::SuccessorBehind, format!("server \"{to}\" has received less than \"{other}\""))
        .server(to)
        .detail(format!(
            "\"{other}\" has WAL up to {lsn}, \"{to}\" {own}. Nobody was promoted; the former primary stays fenced."
        ))
        .hint(format!("What \"{other}\" has more would be lost. Take it instead: pgstead failover --to {other}")))
}

/// Reads what the former primary said when it had ended.
fn token(from: &ServerName, said: &str) -> Result<Token, Diagnostic> {
    let unclean =
        |message: String, detail: String| Diagnostic::error(Code::ShutdownUnclean, message).server(from).detail(detail);
    let (Some((since, is_least)), Some(control)) = (said.lines().find_map(stopped), parse_control(said)) else {
        let message = format!("server \"{from}\" does not say where its WAL ends");
        return Err(unclean(message, format!("It said: {}", said.trim())));
    };
    if control.state != ClusterState::ShutDown {
        let message = format!("server \"{from}\" has ended without a shutdown checkpoint");
        return Err(unclean(message, format!("Its database cluster state is \"{}\".", control.state)));
    }
    Ok(Token { timeline: control.timeline, checkpoint: control.checkpoint, since, is_least })
}

/// Reads for how long an instance has been stopped, and whether that is the least: from its shutdown on where it was told to
/// just now, and else from the end of that. A clock that was set back meanwhile knows of none.
fn stopped(line: &str) -> Option<(Duration, bool)> {
    let words = line.strip_prefix("stopped ")?;
    let (ms, is_least) = match words.strip_prefix("in ") {
        Some(rest) => (rest.strip_suffix(" ms")?, false),
        None => (words.strip_suffix(" ms ago")?, true),
    };
    Some((Duration::from_millis(u64::try_from(ms.parse::<i64>().ok()?.max(0)).ok()?), is_least))
}

/// Waits until the successor has replayed the shutdown checkpoint, for as long as it moves towards it (hazards 57, 62).
async fn arrived(successor: &Client, wish: &HandOver, token: Token) -> Result<(), Diagnostic> {
    let HandOver { from, to, patience_s, .. } = wish;
    let limit = Duration::from_secs(*patience_s);
    let arrived = wait::while_it_moves(limit, LOOK_AGAIN, async || match successor.replayed().await {
        // The end of the last record that was replayed is behind the beginning of that one.
        Ok(state) if state.replay_lsn.is_some_and(|replayed| replayed > token.checkpoint) => (Look::Ready(()), None),
        Ok(state) => {
            let word = |lsn: Option<Lsn>| lsn.map_or("nothing".to_owned(), |lsn| lsn.to_string());
            let seen = format!("received {}, replayed {}", word(state.receive_lsn), word(state.replay_lsn));
            let at = state.replay_lsn.unwrap_or(Lsn(0)).0.saturating_add(state.receive_lsn.unwrap_or(Lsn(0)).0);
            (Look::NotYet(seen), Some(at))
        }
        Err(error) => (Look::NotYet(error.to_string()), None),
    });
    arrived.await.map_err(|seen| {
        let message = format!("server \"{to}\" has not replayed the shutdown checkpoint of \"{from}\"");
        let at = token.checkpoint;
        let detail = format!("That is at {at}; it has not moved for {patience_s} s. Last seen: it has {seen}.");
        Diagnostic::error(Code::CheckpointNotArrived, message).server(to).detail(detail)
    })
}

/// Says that this run has lost its lease in the middle of a change of the primary, so that others may have gone on.
fn overtaken(command: &str, to: &ServerName) -> Diagnostic {
    Diagnostic::error(Code::Overtaken, "this run has lost its lease: it promoted nobody, and started nobody again")
        .detail("Its machine slept, or it was stopped, or the line stood still, for longer than a lease lives. Another run may have finished or taken back the change of the primary meanwhile; on the servers things are as that one left them.")
        .hint(format!("pgstead status shows who is the primary. Where nobody has come in between, the same command again goes on from there: pgstead {command} --to {to}"))
}

/// Returns the timeline that a server writes; none where it is a standby, or does not answer.
async fn timeline_written(server: &Client) -> Option<i64> {
    match server.in_recovery().await {
        // What accepts writes does so whatever its timeline.
        Ok(false) => Some(server.written_timeline().await.map_or(0, i64::from)),
        Ok(true) | Err(_) => None,
    }
}

/// Says why the former primary stays down: its successor was promoted, and not by this run.
fn promoted_by_others(wish: &HandOver, timeline: i64, why: &Diagnostic, has_ended: bool) -> Diagnostic {
    let HandOver { from, to, .. } = wish;
    let message = match timeline {
        0 => format!("server \"{to}\" is a primary: \"{from}\" stays down"),
        timeline => format!("server \"{to}\" is a primary, on timeline {timeline}: \"{from}\" stays down"),
    };
    let why = [Some(why.message.as_str()), why.detail.as_deref()];
    let why: Vec<&str> = why.into_iter().flatten().map(|text| text.trim().trim_end_matches('.')).collect();
    Diagnostic::error(Code::SuccessorPromoted, message)
        .server(to)
        .detail(format!(
            "{}. This run promoted nobody; somebody did so past it. Two servers would accept writes.{}",
            why.join(". "),
            if has_ended {
                String::new()
            } else {
                format!(" Whether the instance of \"{from}\" has ended could not be seen.")
            }
        ))
        .hint(format!(
            "\"{to}\" stays the primary. Whether \"{from}\" has anything more: pgstead reseed {from} --dry-run"
        ))
}

/// Tells that it only goes forward.
fn forward(to: &ServerName, command: &str, diagnostic: Diagnostic) -> Box<Diagnostic> {
    let hint = format!("It only goes forward now: pgstead {command} --to {to}");
    Box::new(diagnostic.server(to).hint(hint))
}

fn promotion_unknown(to: &ServerName, command: &str, why: String) -> End {
    let message = format!("server \"{to}\": whether it was promoted is not known");
    End::Unknown(forward(to, command, Diagnostic::error(Code::PromotionUnknown, message).detail(why)))
}

/// Waits until a server that was promoted accepts writes.
async fn accepts_writes(successor: &Client, to: &ServerName, before: u32, command: &str) -> End {
    let told = |diagnostic: Diagnostic| forward(to, command, diagnostic);
    let unknown = |why: String| promotion_unknown(to, command, why);
    let accepts_writes = wait::while_it_moves(PROMOTION, LOOK_AGAIN, async || match successor.in_recovery().await {
        Ok(false) => (Look::Ready(Ok(())), None),
        Ok(true) => {
            let replayed = successor.replayed().await.ok().and_then(|state| state.replay_lsn);
            (Look::NotYet("it is in recovery".to_owned()), replayed.map(|lsn| lsn.0))
        }
        Err(error) if successor.is_closed() => (Look::Ready(Err(explain(&error))), None),
        Err(error) => (Look::NotYet(explain(&error)), None),
    });
    match accepts_writes.await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => return unknown(why),
        Err(seen) => {
            let message = format!("server \"{to}\" was told to be the primary, and does not accept writes");
            let slow = Diagnostic::error(Code::PromotionSlow, message).detail(format!("Last seen: {seen}."));
            return End::Failed(told(slow));
        }
    }
    match successor.written_timeline().await {
        Ok(timeline) if i64::from(timeline) > i64::from(before) => End::Done,
        Ok(timeline) => {
            let message = format!("server \"{to}\" accepts writes, and not on a timeline of its own");
            let detail = format!("It writes timeline {timeline}; that of the former primary was {before}.");
            End::Failed(told(Diagnostic::error(Code::TimelineNotNew, message).detail(detail)))
        }
        Err(error) => unknown(explain(&error)),
    }
}

fn explain(error: &PostgresError) -> String {
    let diagnostic = error.diagnostic();
    match diagnostic.detail {
        Some(detail) => [&diagnostic.message, ": ", &detail].concat(),
        None => diagnostic.message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str = "pg_control version number:            1300\n\
        Database system identifier:           7300000000000000001\n\
        Database cluster state:               shut down\n\
        Latest checkpoint location:           0/3008BD8\n\
        Latest checkpoint's TimeLineID:       1\n\
        Data page checksum version:           1\n";

    #[test]
    fn one_that_was_ahead_and_does_not_answer_any_more_is_not_forgotten() {
        let name = |name: &str| -> ServerName { name.parse().unwrap() };
        let (b, c, d) = (name("b"), name("c"), name("d"));
        let at = |lsn| Some(Lsn(lsn));
        let judge = |others| refuse_behind(&b, at(100), Vec::from(others)).map_err(|told| told.detail.unwrap());
        assert_eq!(judge([(&c, at(100), at(100)), (&d, None, None)]), Ok(()));
        assert_eq!(judge([(&c, at(90), None), (&d, at(90), at(95))]), Ok(()));
        let ahead = "\"c\" has WAL up to 0/65, \"b\" WAL up to 0/64";
        for (seen, now) in [(at(101), None), (at(90), at(101)), (at(101), at(101))] {
            let told = judge([(&c, seen, now), (&d, at(90), None)]).unwrap_err();
            assert!(told.starts_with(ahead), "{told}");
        }
        assert!(refuse_behind(&b, None, [(&c, at(1), None)]).is_err());
    }

    #[test]
    fn only_a_shutdown_checkpoint_is_a_token() {
        let from = "a".parse().unwrap();
        let said = ["stopped in 93 ms\n", CONTROL].concat();
        let wanted =
            Token { timeline: 1, checkpoint: Lsn(0x300_8BD8), since: Duration::from_millis(93), is_least: false };
        assert_eq!(token(&from, &said).map_err(|trouble| trouble.message), Ok(wanted));
        let earlier = |ms: &str| token(&from, &[&format!("stopped {ms} ms ago\n"), CONTROL].concat()).ok();
        assert_eq!(earlier("4093"), Some(Token { since: Duration::from_millis(4093), is_least: true, ..wanted }));
        assert_eq!(earlier("-7"), Some(Token { since: Duration::ZERO, is_least: true, ..wanted }));
        for (torn, message) in [
            (said.replace("shut down\n", "in production\n"), "server \"a\" has ended without a shutdown checkpoint"),
            (
                said.replace("shut down\n", "shut down in recovery\n"),
                "server \"a\" has ended without a shutdown checkpoint",
            ),
            (CONTROL.to_owned(), "server \"a\" does not say where its WAL ends"),
            ("stopped in 93 ms\n".to_owned(), "server \"a\" does not say where its WAL ends"),
        ] {
            assert_eq!(token(&from, &torn).map_err(|trouble| trouble.message), Err(message.to_owned()));
        }
    }
}
