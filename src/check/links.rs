//! Judges links: the right peer, encrypted, through its slot, alive now, and moving data.

use crate::check::{Canaries, Chain, Evidence, Finding, LinkReport, Verdict, log, slots};
use crate::diagnostic::{Code, Diagnostic};
use crate::judge::link::{Receiving, Sending, Upstream, behind_bytes, connected, is_receiving, is_streaming};
use crate::judge::wal::received;
use crate::judge::{Role, ServerState, State};
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Sender};
use crate::model::observed::Observed;
use crate::model::thresholds::Thresholds;
use crate::model::topology::Link;
use crate::plan::links::network;
use crate::render::hba::roles;

/// Says why an instance could not be asked.
fn why_not_seen(server: ServerState<'_>) -> String {
    match server.role {
        _ if server.is_stopped() => "No instance runs there.".to_owned(),
        Role::Unknown(why) => why.to_owned(),
        _ => String::new(),
    }
}

/// The walsender of a link, the first of several.
fn sender<'a>(state: &State<'a>, link: &Link) -> Option<&'a Sender> {
    match state.link(link).sending {
        Sending::One(sender) | Sending::Several(sender, _) => Some(sender),
        Sending::Unknown | Sending::Nobody => None,
    }
}

/// Returns what the report says of one link.
pub fn report(
    state: &State<'_>,
    primary: &ServerName,
    link: &Link,
    evidence: &Evidence,
    findings: &[Finding],
) -> LinkReport {
    let sender = sender(state, link);
    let behind = state.instance(primary).zip(state.instance(&link.standby));
    LinkReport {
        upstream: link.upstream.clone(),
        standby: link.standby.clone(),
        state: sender.map(|sender| sender.state.clone()),
        sync_state: sender.map(|sender| sender.sync_state.clone()),
        slot: sender.and_then(|sender| sender.slot_name.clone()),
        tls: sender.and_then(|sender| sender.tls_version.clone()),
        canary_ms: evidence
            .canaries
            .as_ref()
            .and_then(|canaries| canaries.get(&link.standby))
            .and_then(Observed::known)
            .and_then(|canary| canary.arrived_ms),
        lag_bytes: behind.and_then(|(primary, standby)| behind_bytes(primary, standby)).map(|bytes| bytes.max(0)),
        verdict: findings
            .iter()
            .filter(|finding| finding.decides(link))
            .map(|finding| finding.verdict)
            .max()
            .unwrap_or(Verdict::Healthy),
    }
}

/// Judges all links.
pub fn check_links(state: &State<'_>, primary: &ServerName, links: &[Link], evidence: &Evidence) -> Vec<Finding> {
    let thresholds = &state.topology.common().thresholds;
    let rate =
        state.instance(primary).and_then(|instance| instance.health.wal?.bytes_per_second(thresholds.slot_outage_s));
    let mut findings = Vec::new();
    for link in links {
        let mut of_link = Vec::new();
        of_link.extend(check_sender(state, link, evidence));
        of_link.extend(state.instance(&link.upstream).into_iter().flat_map(|upstream| {
            let sender = match state.link(link).sending {
                Sending::One(sender) => Some(sender),
                _ => None,
            };
            slots::check_own_slot(upstream, link, sender, rate, thresholds)
        }));
        of_link.extend(check_receiver(state, link));
        of_link.extend(check_replay(state, primary, link, thresholds));
        of_link.extend(check_samples(state, link, evidence, thresholds));
        let canaries = evidence.canaries.as_ref();
        of_link.extend(canaries.map(|canaries| check_canary(link, primary, canaries)).unwrap_or_default());
        findings.extend(of_link.into_iter().map(|finding| finding.on(link)));
    }
    findings
}

/// L4: the upstream's view.
fn check_sender(state: &State<'_>, link: &Link, evidence: &Evidence) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let slot = standby.slot_name();
    let sender = match state.link(link).sending {
        Sending::One(sender) => sender,
        Sending::Unknown => {
            return vec![Finding::unknown(
                Diagnostic::error(
                    Code::UpstreamNotSeen,
                    format!("link {upstream} → {standby}: \"{upstream}\" could not be asked"),
                )
                .server(upstream)
                .detail(why_not_seen(state.server(upstream))),
            )];
        }
        Sending::Nobody => return vec![Finding::unhealthy(not_connected(state, link, evidence))],
        Sending::Several(_, several) => {
            return vec![Finding::unhealthy(
                Diagnostic::error(
                    Code::SeveralSenders,
                    format!("link {upstream} → {standby}: {several} connections call themselves \"{standby}\""),
                )
                .server(upstream)
                .hint("A name must be unique, or synchronous replication counts the wrong server."),
            )];
        }
    };
    let mut findings = Vec::new();
    let mut wrong = |code, what: String| {
        let message = format!("link {upstream} → {standby}: {what}");
        let diagnostic = Diagnostic::error(code, message).server(upstream);
        findings.push(Finding::unhealthy(diagnostic.detail(format!("pg_stat_replication on \"{upstream}\" says so."))));
    };
    if !is_streaming(sender) {
        wrong(Code::NotStreaming, format!("its state is {}", sender.state));
    }
    if sender.usename != roles::REPLICATOR {
        wrong(Code::WrongRole, format!("it is connected as role \"{}\"", sender.usename));
    }
    if sender.slot_name.as_ref() != Some(&slot) {
        wrong(
            Code::WrongSlot,
            format!(
                "it streams {}, not through slot \"{slot}\"",
                sender
                    .slot_name
                    .as_ref()
                    .map_or("without a slot".to_owned(), |slot| format!("through slot \"{slot}\""))
            ),
        );
    }
    let modern = matches!(sender.tls_version.as_deref(), Some("TLSv1.2" | "TLSv1.3"));
    if !sender.ssl || !modern {
        wrong(Code::NotEncrypted, format!("its TLS version is {}", sender.tls_version.as_deref().unwrap_or("none")));
    }
    let names_it =
        |dn: &String| dn.split(['/', ',']).any(|part| part.trim().strip_prefix("CN=") == Some(standby.as_str()));
    if !sender.client_dn.as_ref().is_some_and(names_it) {
        wrong(
            Code::WrongCertificate,
            format!("its client certificate is {}", sender.client_dn.as_deref().unwrap_or("none")),
        );
    }
    let State { topology, observation, .. } = *state;
    let known = topology.server(standby).map(|server| network::sources(topology, observation, server));
    if let (Some(known), Some(Ok(found))) = (known, sender.client_addr.as_ref().map(|text| text.parse()))
        && state.seen(standby).is_some()
        && !known.contains(&found)
    {
        wrong(Code::WrongAddress, format!("it comes from {found}, which is not an address of \"{standby}\""));
    }
    findings
}

/// Says that a standby is not connected, and why, by its own log.
fn not_connected(state: &State<'_>, link: &Link, evidence: &Evidence) -> Diagnostic {
    let Link { upstream, standby } = link;
    let message = format!("link {upstream} → {standby}: \"{standby}\" is not connected to \"{upstream}\"");
    let diagnostic = Diagnostic::error(Code::NoSender, message).server(upstream);
    if state.server(standby).is_stopped() {
        return diagnostic.hint(format!("It connects by itself once the instance on \"{standby}\" runs."));
    }
    let log = evidence.logs.get(standby).and_then(Observed::known);
    match log.and_then(|log| Some((log::complaint(&log.text)?, &log.file))) {
        Some((complaint, file)) => diagnostic
            .detail(format!("The log of \"{standby}\" says: {} ({file})", complaint.message))
            .hint("Fix what it says. It tries again every few seconds, and then connects by itself."),
        None => diagnostic.hint(format!(
            "Read the log of \"{standby}\"{}: it tries again every few seconds.",
            log.map_or(String::new(), |log| format!(" ({})", log.file))
        )),
    }
}

/// L5: the standby's own view.
fn check_receiver(state: &State<'_>, link: &Link) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let receiving = state.link(link).receiving;
    if receiving == Receiving::Unknown {
        return vec![Finding::unknown(
            Diagnostic::error(
                Code::StandbyNotSeen,
                format!("link {upstream} → {standby}: \"{standby}\" could not be asked"),
            )
            .server(standby)
            .detail(why_not_seen(state.server(standby))),
        )];
    }
    let mut findings = Vec::new();
    let mut wrong = |code, what: String| {
        let message = format!("link {upstream} → {standby}: {what}");
        let diagnostic = Diagnostic::error(code, message).server(standby);
        findings.push(Finding::unhealthy(diagnostic.detail(format!("pg_stat_wal_receiver on \"{standby}\" says so."))));
    };
    let Receiving::From(receiver, from) = receiving else {
        wrong(Code::NoReceiver, format!("\"{standby}\" receives no WAL"));
        return findings;
    };
    if !is_receiving(receiver) {
        wrong(Code::ReceiverNotStreaming, format!("the WAL receiver's status is {}", receiver.status));
    }
    if let Some(server) = state.topology.server(upstream).filter(|_| from != Upstream::Server(upstream)) {
        let found = connected(receiver);
        let wanted = format!("{} port {}", server.address, server.port);
        match from {
            Upstream::Elsewhere(Some(_)) => wrong(
                Code::UpstreamOutside,
                format!(
                    "the WAL receiver is connected to {found}, which is no server of the inventory: it may be a second primary"
                ),
            ),
            _ => wrong(Code::WrongUpstream, format!("the WAL receiver is connected to {found}, not to {wanted}")),
        }
    }
    if !receiver.conninfo.contains("sslmode=verify-full") {
        wrong(
            Code::NotVerified,
            "the WAL receiver does not verify its upstream's certificate (sslmode is not verify-full)".to_owned(),
        );
    }
    let authority = state.seen(standby).and_then(|seen| seen.layout.known()).map(|layout| layout.own("ca.crt"));
    let found = receiver.conninfo.split_once("sslrootcert=").map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
    if let Some(authority) = authority
        && found != Some(authority.as_str())
        && found.is_none_or(|found| !found.starts_with('\''))
    {
        let found = found.unwrap_or("nothing");
        wrong(
            Code::NotVerified,
            format!("the WAL receiver verifies its upstream's certificate by {found}, not by {authority}"),
        );
    }
    if receiver.slot_name.as_ref() != Some(&standby.slot_name()) {
        wrong(
            Code::WrongSlot,
            format!("the WAL receiver uses slot {}", receiver.slot_name.as_deref().unwrap_or("none")),
        );
    }
    findings
}

/// L8 and L9: replay goes on, and is near.
fn check_replay(state: &State<'_>, primary: &ServerName, link: &Link, thresholds: &Thresholds) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let Some(seen) = state.instance(standby) else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(paused) = seen.replay_pause_state.as_deref().filter(|paused| *paused != "not paused") {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::ReplayPaused,
                format!("link {upstream} → {standby}: replay on \"{standby}\" is {paused}"),
            )
            .server(standby)
            .hint("SELECT pg_wal_replay_resume(); there, once it is known why it was paused."),
        ));
    }
    findings.extend(check_ahead(state, primary, link, seen));
    let reference = state.instance(primary);
    if let Some((primary, bytes)) = reference.and_then(|primary| Some((primary, behind_bytes(primary, seen)?))) {
        let behind = u64::try_from(bytes).unwrap_or(0);
        let message = format!("link {upstream} → {standby}: \"{standby}\" is {} MB behind", behind >> 20);
        let lag = |diagnostic: Diagnostic| {
            diagnostic
                .server(standby)
                .detail(stages(primary, sender(state, link), seen))
                .hint("Waiting for replay: look for long queries there. Not arrived: look at the network.")
        };
        if behind >= thresholds.lag_error_bytes {
            findings.push(Finding::unhealthy(lag(Diagnostic::error(Code::Lag, message))));
        } else if behind >= thresholds.lag_warning_bytes {
            findings.push(Finding::remark(lag(Diagnostic::warning(Code::Lag, message))));
        }
    }
    findings
}

/// A standby has nothing that its primary lacks, unless the primary was put back to an older state. One that receives WAL is
/// looked at at another moment than the primary, and may have more by then: but no more than its upstream last said there is.
/// Such a one may stream all the same, from the beginning of the segment, and nobody notices that it does not get on.
fn check_ahead(state: &State<'_>, primary: &ServerName, link: &Link, seen: &Instance) -> Option<Finding> {
    let Link { upstream, standby } = link;
    let reference = state.instance(primary)?;
    let (current, has) = (reference.positions.current?, received(seen)?);
    let end = match &seen.receiver {
        Some(receiver) => current.max(receiver.latest_end_lsn?),
        None => current,
    };
    let is_same = reference.system_identifier == seen.system_identifier && reference.timeline == seen.timeline;
    if !is_same || has <= end {
        return None;
    }
    let message = format!("link {upstream} → {standby}: \"{standby}\" has WAL that its primary \"{primary}\" has not");
    Some(Finding::unhealthy(
        Diagnostic::error(Code::StandbyAhead, message)
            .server(standby)
            .detail(format!(
                "Both are on timeline {}: \"{standby}\" has it up to {has}, \"{primary}\" up to {end}. The primary was put back to an older state, as by a snapshot, or lost what it had flushed.",
                seen.timeline
            ))
            .hint(format!(
                "What was committed since is on \"{standby}\". Stop \"{primary}\" before more is written there, then: pgstead failover --to {standby}, and pgstead reseed {primary}. Where the older state is to count: pgstead reseed {standby}"
            )),
    ))
}

/// Says in which stage the bytes are that a standby is behind: not sent, on the way, or waiting for replay (L8).
fn stages(primary: &Instance, sender: Option<&Sender>, seen: &Instance) -> String {
    let sent = sender.and_then(|sender| sender.sent_lsn);
    let flushed = sender.and_then(|sender| sender.flush_lsn).or(seen.positions.receive);
    let stages = [
        (primary.positions.current, sent, "not sent"),
        (sent, flushed, "sent and not on its disk"),
        (flushed, seen.positions.replay, "on its disk and wait for replay"),
    ];
    let words = stages.into_iter().filter_map(|(from, to, what)| {
        let bytes = from?.bytes_ahead_of(to?).max(0);
        Some(format!("{} MB are {what}", bytes >> 20))
    });
    words.collect::<Vec<_>>().join(", ") + "."
}

/// L6 and L8 over time: the upstream hears from the standby, which falls behind no further.
fn check_samples(state: &State<'_>, link: &Link, evidence: &Evidence, thresholds: &Thresholds) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let Some(Observed::Known(samples)) = evidence.samples.get(standby) else { return Vec::new() };
    let mut findings = Vec::new();
    let behind: Option<Vec<i64>> = samples.iter().map(|sample| sample.behind_bytes).collect();
    if let Some(behind) = behind.filter(|behind| behind.len() >= 3)
        && behind.windows(2).all(|pair| pair[0] < pair[1])
        && let Some(last) = behind.last().and_then(|last| u64::try_from(*last).ok())
        && last >= thresholds.lag_growth_bytes
    {
        let words: Vec<String> = samples
            .iter()
            .zip(&behind)
            .map(|(sample, bytes)| format!("{} kB after {:.1} s", bytes >> 10, sample.after_ms as f64 / 1000.0))
            .collect();
        findings.push(Finding::remark(
            Diagnostic::warning(
                Code::LagGrowing,
                format!("link {upstream} → {standby}: \"{standby}\" falls further behind"),
            )
            .server(standby)
            .detail(format!("{}.", words.join(", ")))
            .hint("WAL is written faster than it is sent or replayed. Look again when the load is over."),
        ));
    }
    let interval_ms = state
        .instance(standby)
        .and_then(|seen| seen.settings.get("wal_receiver_status_interval"))
        .and_then(|setting| setting.setting.parse::<u64>().ok())
        .unwrap_or(10)
        .saturating_mul(1000);
    if let (Some(first), Some(last)) = (samples.first(), samples.last())
        && interval_ms > 0
        && last.after_ms >= 2 * interval_ms
        && first.reply_time_us.is_some()
        && first.reply_time_us == last.reply_time_us
    {
        findings.push(Finding::unhealthy(
            Diagnostic::error(
                Code::LinkSilent,
                format!("link {upstream} → {standby}: \"{upstream}\" hears nothing from \"{standby}\""),
            )
            .server(standby)
            .detail(format!(
                "reply_time in pg_stat_replication did not move within {:.1} s; the standby replies every {} s. The network lets nothing through, whatever the state says.",
                last.after_ms as f64 / 1000.0,
                interval_ms / 1000
            ))
            .hint("Look at the network between the two. They notice by themselves after wal_sender_timeout, and connect again."),
        ));
    }
    findings
}

/// L6 and L7: a row written now is read there, and the upstream heard from it.
fn check_canary(link: &Link, primary: &ServerName, canaries: &Canaries) -> Vec<Finding> {
    let Link { upstream, standby } = link;
    let lost = |name: &ServerName| {
        canaries.get(name).and_then(Observed::known).is_some_and(|canary| canary.arrived_ms.is_none())
    };
    let unhealthy = |code, what: String, hint: String| {
        let diagnostic = Diagnostic::error(code, format!("link {upstream} → {standby}: {what}"));
        Finding::unhealthy(diagnostic.server(standby).hint(hint))
    };
    let unknown = |why: &str| {
        Finding::unknown(
            Diagnostic::error(
                Code::CanaryUnknown,
                format!("link {upstream} → {standby}: whether data arrives could not be tried"),
            )
            .server(standby)
            .detail(why.to_owned()),
        )
    };
    match canaries.get(standby).map(Observed::look) {
        Some(Ok(Some(canary))) => {
            let mut findings = Vec::new();
            match canary.arrived_ms {
                None => findings.push(unhealthy(
                    Code::CanaryLost,
                    format!("a row written on \"{primary}\" did not arrive within {:.1} s", canary.waited_ms / 1000.0),
                    if lost(upstream) {
                        format!("It did not arrive on \"{upstream}\" either: begin there.")
                    } else {
                        format!("Whatever pg_stat_replication on \"{upstream}\" says, no data arrives: replay waits, or the network lets nothing through.")
                    },
                )),
                Some(_) if !canary.same_row => findings.push(unhealthy(
                    Code::CanaryDiffers,
                    format!(
                        "the row on \"{standby}\" is not the one that was written on \"{primary}\": their data differ"
                    ),
                    format!("pgstead reseed {standby} --dry-run says what it takes. Until then let nobody promote it."),
                )),
                Some(_) if canary.replied == Some(false) => findings.push(unhealthy(
                    Code::NoReply,
                    format!("\"{upstream}\" has not heard from \"{standby}\" since the row was written"),
                    format!("The row came on another way than from \"{upstream}\", or the way back is closed."),
                )),
                Some(_) if canary.replied.is_none() => findings.push(Finding::unknown(
                    Diagnostic::error(
                        Code::ReplyUnknown,
                        format!("link {upstream} → {standby}: whether \"{upstream}\" hears from \"{standby}\" could not be seen"),
                    )
                    .server(standby)
                    .detail(format!("The row arrived on \"{standby}\"; \"{upstream}\" could not be asked.")),
                )),
                Some(_) => {}
            }
            if canary.arrived_ms.is_some() {
                findings.extend(check_chain(link, primary, &canary.chain));
            }
            findings
        }
        Some(Err(why)) => vec![unknown(why)],
        Some(Ok(None)) | None => {
            vec![unknown("No row was written: not exactly one server is known to accept writes.")]
        }
    }
}

/// L11: the canaries of the past as well. A row that one of them never had shows that they went apart, however green the
/// link is now (hazards.md, finding 1).
fn check_chain(link: &Link, primary: &ServerName, chain: &Observed<Chain>) -> Option<Finding> {
    let Link { upstream, standby } = link;
    let unknown = |why: &str, hint: &str| {
        let message = format!(
            "link {upstream} → {standby}: whether \"{standby}\" always had the data of \"{primary}\" could not be looked at"
        );
        Finding::unknown(
            Diagnostic::error(Code::CanaryChainUnknown, message).server(standby).detail(why.to_owned()).hint(hint),
        )
    };
    match chain.look() {
        Ok(Some(Chain::Equal { .. })) => None,
        Ok(Some(Chain::Differs { seq })) => Some(Finding::unhealthy(
            Diagnostic::error(
                Code::CanaryChainDiffers,
                format!("link {upstream} → {standby}: \"{standby}\" has another history than \"{primary}\": their chains of canaries differ from row {seq} on"),
            )
            .server(standby)
            .detail(format!("pgstead.canary has a row with seq = {seq} on one of them only, or with another hash. However well the link streams now, rows of other tables may differ too."))
            .hint(format!("\"{standby}\" was written to, or followed someone else, around that row: pgstead reseed {standby} --method basebackup. Until then let nobody read from it or promote it.")),
        )),
        Ok(None) => Some(unknown(
            "The canary table was made by an earlier release: its rows form no chain.",
            "\"pgstead bootstrap\" adds the chain.",
        )),
        Err(why) => Some(unknown(why, "Run check again; if it stays, look at the log of both servers.")),
    }
}
