//! What keeps a standby that stands still on its way to the row, and whether that can pass by itself: what cannot is not waited for.
//!
//! It looks once a second, and only while nothing moves: at the standby's settings, at its slot, and at its log.

use std::time::{Duration, Instant};

use crate::check::log;
use crate::check::log::{Complaint, Passes};
use crate::diagnostic::{Code, Diagnostic};
use crate::model::topology::Link;
use crate::observe::log::LogEnd;
use crate::postgres::Client;
use crate::postgres::queries::Standing;
use crate::prove::Sessions;
use crate::quote::conninfo;
use crate::remote::Host;

/// How long a standby stands still until it is asked why: a link that goes well costs no look.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// How long an upstream may be out of reach at the address that the standby dials, while we reach it.
const UNREACHED: Duration = Duration::from_secs(15);

/// What to do when the cause is out of the way.
const AGAIN: &str = "Fix what it says, then run the same command again: it does only what is missing.";

/// How often a standby must say that it cannot stream until it is believed: the first time may be of the moment before.
const TIMES: usize = 2;

/// What was seen of a link that stands still.
#[derive(Debug, Default)]
struct Facts {
    standing: Option<Standing>,
    /// `wal_status` of its slot; none where there is no such slot.
    slot: Option<Option<String>>,
    /// Where its upstream is, as standbys dial it: host and port.
    upstream: Option<(String, u16)>,
    complaint: Option<Complaint>,
    still_for: Duration,
    file: String,
}

/// Watches one link that is being proven.
#[derive(Debug)]
pub(super) struct Stuck {
    still_since: Instant,
    looked: Instant,
    furthest: Option<u64>,
    read: Option<LogEnd>,
    said: Vec<String>,
    last: Option<Diagnostic>,
}

impl Stuck {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { still_since: now, looked: now, furthest: None, read: None, said: Vec::new(), last: None }
    }

    /// Takes note of how far the standby is: what kept it before it moved keeps it no more.
    pub(super) fn note(&mut self, moved: Option<u64>) {
        if moved > self.furthest {
            self.furthest = moved;
            self.still_since = Instant::now();
            self.last = None;
            self.said.clear();
        }
    }

    /// Looks what keeps the standby, where it is time to; returns what will not pass.
    pub(super) async fn look<H: Host>(
        &mut self,
        sessions: &Sessions<'_, H>,
        link: &Link,
        sender: &Client,
        receiver: &Client,
    ) -> Option<Box<Diagnostic>> {
        if self.still_since.elapsed() < LOOK_AFTER || self.looked.elapsed() < LOOK_AFTER {
            return None;
        }
        self.looked = Instant::now();
        let facts = self.facts(sessions, link, sender, receiver).await;
        self.settle(lasting(link, &facts))
    }

    /// Looks whether the instance of the standby, to which no session can be opened, has ended: nobody starts it meanwhile.
    pub(super) async fn look_closed<H: Host>(
        &mut self,
        sessions: &Sessions<'_, H>,
        link: &Link,
    ) -> Option<Box<Diagnostic>> {
        if self.looked.elapsed() < LOOK_AFTER {
            return None;
        }
        self.looked = Instant::now();
        let standby = &link.standby;
        // The whole end of it, whatever was read before.
        let end = sessions.log_end(standby, None).await?;
        let cause = log::has_ended(&end.text).then(|| log::last_words(&end.text)).flatten().map(|words| {
            Diagnostic::error(Code::LinkNotProven, format!("the instance of standby \"{standby}\" has ended"))
                .server(standby)
                .detail(format!("Its log says: {words} ({})", end.file))
                .hint(AGAIN)
        });
        self.settle(cause)
    }

    /// Returns what was seen twice, since two looks at two servers are of two moments. How often a log says it may grow meanwhile.
    fn settle(&mut self, cause: Option<Diagnostic>) -> Option<Box<Diagnostic>> {
        let alike = |one: &Diagnostic, other: &Diagnostic| one.code == other.code && one.hint == other.hint;
        let is_settled = cause.as_ref().zip(self.last.as_ref()).is_some_and(|(one, other)| alike(one, other));
        self.last.clone_from(&cause);
        cause.filter(|_| is_settled).map(Box::new)
    }

    /// Says what keeps a standby that was waited for as long as it may take.
    pub(super) async fn end<H: Host>(
        &mut self,
        sessions: &Sessions<'_, H>,
        link: &Link,
        sender: &Client,
        receiver: &Client,
        seen: &str,
    ) -> Box<Diagnostic> {
        let facts = self.facts(sessions, link, sender, receiver).await;
        let told = facts.complaint.as_ref().map(|complaint| said(link, complaint, &facts.file)).unwrap_or_default();
        let more = format!("The log of \"{}\" may say more{}.", link.standby, place(&facts.file));
        let mut diagnostic = lasting(link, &facts).unwrap_or_else(|| not_proven(link, told, more));
        let cause = diagnostic.detail.take().unwrap_or_default();
        Box::new(diagnostic.detail([seen, " ", &cause].concat().trim_end()))
    }

    async fn facts<H: Host>(
        &mut self,
        sessions: &Sessions<'_, H>,
        link: &Link,
        sender: &Client,
        receiver: &Client,
    ) -> Facts {
        let slot_name = link.standby.slot_name();
        let log = sessions.log_end(&link.standby, self.read.as_ref());
        let (standing, slot, end) = tokio::join!(receiver.standing(), sender.slot_wal_status(&slot_name), log);
        // What stands in the log from before is no news of this link.
        if let Some(end) = end {
            if self.read.is_some() {
                self.said.push(end.text.clone());
            }
            self.read = Some(end);
        }
        Facts {
            standing: standing.ok(),
            slot: slot.ok(),
            upstream: sessions.dialled_at(&link.upstream),
            complaint: log::complaint(&self.said.join("\n")),
            still_for: self.still_since.elapsed(),
            file: self.read.as_ref().map(|end| end.file.clone()).unwrap_or_default(),
        }
    }
}

fn place(file: &str) -> String {
    if file.is_empty() { String::new() } else { format!(": {file}") }
}

fn said(link: &Link, complaint: &Complaint, file: &str) -> String {
    let Complaint { message, times, .. } = complaint;
    let times = if *times > 1 { format!(" {times} times since it last moved") } else { String::new() };
    format!("The log of \"{}\" says{times}: {message} ({file})", link.standby)
}

fn not_proven(link: &Link, detail: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
    let Link { upstream, standby } = link;
    Diagnostic::error(Code::LinkNotProven, format!("link {upstream} → {standby} moves no data"))
        .server(standby)
        .detail(detail)
        .hint(hint)
}

/// Returns what keeps a standby and will not pass by itself.
fn lasting(link: &Link, facts: &Facts) -> Option<Diagnostic> {
    let Link { upstream, standby } = link;
    let cause = |detail: String, hint: String| Some(not_proven(link, detail, hint));
    if let Some(standing) = &facts.standing {
        if !standing.in_recovery {
            return Some(promoted(link, standing));
        }
        if standing.pause_state.as_deref().is_some_and(|state| state != "not paused") {
            return cause(
                ["Replay is paused on it.".to_owned()]
                    .into_iter()
                    .chain(targets(standing, "It stops there because of"))
                    .collect::<Vec<_>>()
                    .join(" "),
                format!("SELECT pg_wal_replay_resume() on \"{standby}\" lets it go on."),
            );
        }
    }
    match &facts.slot {
        Some(Some(status)) if status == "lost" => {
            return cause(
                format!(
                    "Its slot on \"{upstream}\" lost WAL that it needs: \"{upstream}\" has recycled it ({status})."
                ),
                format!("Copy it anew: pgstead reseed {standby}"),
            );
        }
        Some(None) => {
            return cause(
                format!("\"{upstream}\" has no slot \"{}\" for it.", standby.slot_name()),
                "pgstead bootstrap makes it.".to_owned(),
            );
        }
        _ => {}
    }
    if let Some(cause) = facts.standing.as_ref().and_then(|standing| elsewhere(link, standing, facts)) {
        return Some(cause);
    }
    if let Some(complaint) = &facts.complaint {
        let lasts = match complaint.passes {
            Passes::Not => complaint.times >= TIMES,
            Passes::WhenReached => complaint.times >= TIMES && facts.still_for >= UNREACHED,
            Passes::ByItself => false,
        };
        if lasts {
            return cause(said(link, complaint, &facts.file), AGAIN.to_owned());
        }
    }
    let delay_ms = facts.standing.as_ref().map_or(0, |standing| standing.apply_delay_ms);
    if delay_ms > 0 && facts.complaint.is_none() && facts.still_for >= UNREACHED {
        return cause(
            format!(
                "recovery_min_apply_delay is {delay_ms} ms on \"{standby}\": it replays a write only that long after its commit."
            ),
            format!(
                "Take recovery_min_apply_delay out of the configuration of \"{standby}\", reload there, and run the same command again."
            ),
        );
    }
    None
}

fn promoted(link: &Link, standing: &Standing) -> Diagnostic {
    let Link { upstream, standby } = link;
    let why = targets(standing, "Its recovery ended because of")
        .unwrap_or_else(|| "Somebody, or a setting of its recovery, promoted it.".to_owned());
    let message = format!("server \"{standby}\" is no standby any more: it was promoted and accepts writes");
    Diagnostic::error(Code::StandbyPromoted, message)
        .server(standby)
        .detail(format!("It does not follow \"{upstream}\" any more: there are two primaries. {why}"))
        .hint(format!(
            "Stop the instance on \"{standby}\" at once, so that no client writes there. Remove the setting, then copy it anew: pgstead reseed {standby}"
        ))
}

fn targets(standing: &Standing, why: &str) -> Option<String> {
    (!standing.targets.is_empty()).then(|| format!("{why} {}.", standing.targets.join(", ")))
}

/// Says that a standby is told to stream from elsewhere, or through another slot.
fn elsewhere(link: &Link, standing: &Standing, facts: &Facts) -> Option<Diagnostic> {
    let Link { upstream, standby } = link;
    let (host, port) = facts.upstream.as_ref()?;
    let hint = format!(
        "Look which file sets it, in pg_file_settings on \"{standby}\", and remove it there; postgresql.auto.conf wins over all others. Then: pgstead bootstrap"
    );
    let dialled = conninfo::value(&standing.conninfo, "host");
    let dialled_port = conninfo::value(&standing.conninfo, "port").unwrap_or_else(|| "5432".to_owned());
    let wrong = if standing.conninfo.is_empty() {
        format!("primary_conninfo is empty on \"{standby}\".")
    } else if dialled.as_ref().is_some_and(|dialled| dialled != host) || dialled_port != port.to_string() {
        let dialled = dialled.unwrap_or_else(|| "no host".to_owned());
        format!(
            "primary_conninfo on \"{standby}\" leads to {dialled} port {dialled_port}, and \"{upstream}\" is {host} port {port}."
        )
    } else if standing.slot_name != standby.slot_name() {
        format!(
            "primary_slot_name on \"{standby}\" is \"{}\", and its slot is \"{}\".",
            standing.slot_name,
            standby.slot_name()
        )
    } else {
        return None;
    };
    Some(not_proven(link, wrong, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link { upstream: "a".parse().unwrap(), standby: "b".parse().unwrap() }
    }

    fn well() -> Facts {
        Facts {
            standing: Some(Standing {
                in_recovery: true,
                pause_state: Some("not paused".to_owned()),
                conninfo: "host=10.0.0.1 port=5432 user=replicator".to_owned(),
                slot_name: "b".to_owned(),
                ..Standing::default()
            }),
            slot: Some(Some("reserved".to_owned())),
            upstream: Some(("10.0.0.1".to_owned(), 5432)),
            file: "/log".to_owned(),
            ..Facts::default()
        }
    }

    fn detail(change: impl FnOnce(&mut Facts)) -> Option<String> {
        let mut facts = well();
        change(&mut facts);
        lasting(&link(), &facts).and_then(|cause| cause.detail)
    }

    fn standing(change: impl FnOnce(&mut Standing)) -> Option<String> {
        detail(|facts| change(facts.standing.as_mut().unwrap()))
    }

    fn complains(times: usize, passes: Passes, still_for: Duration) -> Option<String> {
        detail(|facts| {
            facts.complaint = Some(Complaint { message: "FATAL: no".to_owned(), times, passes });
            facts.still_for = still_for;
        })
    }

    #[test]
    fn what_passes_is_waited_for() {
        assert_eq!(detail(|_| ()), None);
        assert_eq!(detail(|facts| *facts = Facts::default()), None);
        assert_eq!(complains(1, Passes::Not, LOOK_AFTER), None);
        assert_eq!(complains(9, Passes::WhenReached, LOOK_AFTER), None);
        assert_eq!(complains(90, Passes::ByItself, Duration::from_secs(90)), None);
        assert_eq!(standing(|standing| standing.conninfo = "postgresql://u@10.0.0.1".to_owned()), None);
    }

    #[test]
    fn what_does_not_pass_ends_it_and_is_named() {
        let said = "The log of \"b\" says 2 times since it last moved: FATAL: no (/log)";
        assert_eq!(complains(2, Passes::Not, LOOK_AFTER).as_deref(), Some(said));
        assert_eq!(complains(2, Passes::WhenReached, UNREACHED).as_deref(), Some(said));
        assert_eq!(detail(|facts| facts.slot = Some(None)).as_deref(), Some("\"a\" has no slot \"b\" for it."));
        let old = standing(|standing| standing.conninfo = "host=old.example password=x".to_owned()).unwrap();
        assert_eq!(old, "primary_conninfo on \"b\" leads to old.example port 5432, and \"a\" is 10.0.0.1 port 5432.");
        let slot = standing(|standing| standing.slot_name = "former".to_owned()).unwrap();
        assert_eq!(slot, "primary_slot_name on \"b\" is \"former\", and its slot is \"b\".");
        let promoted = standing(|standing| {
            standing.in_recovery = false;
            standing.targets = vec!["recovery_target_time = '2026-01-01' in /x line 3".to_owned()];
        });
        assert!(promoted.unwrap().ends_with("because of recovery_target_time = '2026-01-01' in /x line 3."));
        let delayed = detail(|facts| {
            facts.standing.as_mut().unwrap().apply_delay_ms = 3_600_000;
            facts.still_for = UNREACHED;
        });
        assert!(delayed.unwrap().starts_with("recovery_min_apply_delay is 3600000 ms on \"b\""));
    }
}
