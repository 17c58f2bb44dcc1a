//! A standby that somebody made by hand joins the topology with its primary: what stands in the way, what the operator should know,
//! and the steps. Nothing is copied.
//!
//! That its data are the primary's is for `history`, whose WAL alone can prove it. Its mark comes last, when it streams over
//! pgstead's connection: until then it is the operator's, and a run that was interrupted is begun anew by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::link;
use crate::judge::link::Upstream;
use crate::model::identity;
use crate::model::name::ServerName;
use crate::model::observation::{FileSetting, Instance, Observation, Sender};
use crate::model::observed::Observed;
use crate::model::parameter::is_same_value;
use crate::model::topology::{Link, Topology};
use crate::plan::adoption;
use crate::plan::adoption::lost;
use crate::plan::files;
use crate::plan::files::Entry;
use crate::plan::files::brought::{self, SyncNames};
use crate::plan::files::decided::{Change, Decided, Direction};
use crate::plan::files::desired::Wanted;
use crate::plan::links::network;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::{seed, service, sql};
use crate::plan::{PlanBuilder, StepId};
use crate::quote::mask;

/// What says whom a standby follows. What `ALTER SYSTEM` has set of it, as `pg_basebackup -R` does, would win over our file; it goes
/// over to that by a step of the plan.
pub(super) const CONNECTION: [&str; 2] = ["primary_conninfo", "primary_slot_name"];

/// Says whether a parameter of a standby that joins is taken back by a step.
pub(super) fn is_taken_over(seen: Seen<'_>, parameter: &str) -> bool {
    let may_alter = || {
        let setting = seen.instance.and_then(|instance| instance.settings.get("allow_alter_system"));
        setting.is_none_or(|setting| setting.setting != "off")
    };
    seen.joins() && CONNECTION.contains(&parameter) && may_alter()
}

/// A slot by which an upstream kept WAL for a standby until now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerSlot {
    /// Whose slot it is.
    pub upstream: ServerName,
    /// Its name.
    pub name: String,
}

/// What is known of the others, to judge one that joins.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a> {
    pub topology: &'a Topology,
    pub observation: &'a Observation,
    pub servers: &'a BTreeMap<ServerName, Seen<'a>>,
}

impl<'a> Others<'a> {
    /// The walsenders of a server that serve a standby, by the address that they send to.
    pub(super) fn senders_to(self, standby: Seen<'_>, upstream: Seen<'a>) -> impl Iterator<Item = &'a Sender> {
        let at = standby.server.address.ip();
        let mut known: BTreeSet<IpAddr> = network::sources(self.topology, self.observation, standby.server);
        known.extend(standby.seen.addresses.iter().copied());
        // Every machine has that one.
        known.retain(|ip| !ip.is_loopback() || Some(*ip) == at);
        let senders = upstream.instance.into_iter().flat_map(|instance| &instance.senders);
        senders.filter(move |sender| {
            let from = sender.client_addr.as_deref().and_then(|from| from.parse().ok());
            from.is_some_and(|from: IpAddr| known.contains(&from))
        })
    }

    /// Returns the slot that keeps WAL for a standby that joins and that it will need no more: it says itself that it streams through
    /// that, and so does the walsender that serves it.
    pub fn former_slot(self, standby: Seen<'_>, link: &Link) -> Option<FormerSlot> {
        let name = standby.instance?.receiver.as_ref()?.slot_name.as_deref().filter(|name| !name.is_empty())?;
        let is_kept = |upstream: &ServerName| *upstream == link.upstream && name == standby.server.name.slot_name();
        let holds = |upstream: &&Seen<'a>| {
            let slot = upstream.instance.and_then(|instance| instance.slots.get(name));
            let pid = slot.filter(|slot| slot.active && slot.slot_type == "physical").and_then(|slot| slot.active_pid);
            self.senders_to(standby, **upstream)
                .any(|sender| sender.slot_name.as_deref() == Some(name) && Some(sender.pid) == pid)
        };
        let found: Vec<&Seen<'a>> = self.servers.values().filter(holds).collect();
        let [upstream] = found.as_slice() else { return None };
        let upstream = upstream.server.name.clone();
        (!is_kept(&upstream)).then(|| FormerSlot { upstream, name: name.to_owned() })
    }

    /// Returns why a standby cannot join as it is.
    pub fn refusals(self, standby: Seen<'_>, wanted: &Wanted, link: &Link) -> Vec<Diagnostic> {
        let Some(instance) = standby.instance else { return Vec::new() };
        let mut refusals = adoption::overridden(self.topology, standby, wanted);
        refusals.extend(self.follows_a_stranger(standby, instance));
        refusals.extend(adoption::files_elsewhere(standby, instance));
        refusals.extend(adoption::certificate(self.topology, standby, instance));
        refusals.extend(adoption::revocation(self.topology, standby, instance));
        refusals.extend(adoption::not_in_force(standby));
        refusals.extend(self.slot_of_somebody_else(standby, instance, link));
        refusals.extend(lost::refusals(self, standby, instance, link));
        let name = &standby.server.name;
        refusals.into_iter().map(|refusal| adoption::with_server(refusal, name)).collect()
    }

    /// It follows a server that the inventory does not have: that one may be the primary of all.
    fn follows_a_stranger(self, standby: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
        let from = match link::receives_from(self.topology, instance) {
            Some(Upstream::Server(_)) => return None,
            Some(Upstream::OtherPort(_) | Upstream::Elsewhere(_)) => instance.receiver.as_ref().map(link::connected)?,
            None => return self.would_follow_a_stranger(standby, instance),
        };
        // It may dial a name, or an address that moves, of a server that is there.
        if self.servers.values().any(|upstream| self.senders_to(standby, *upstream).next().is_some()) {
            return None;
        }
        let name = &standby.server.name;
        Some(
            Diagnostic::error(
                Code::UnmanagedStandby,
                format!("server \"{name}\" has a standby that follows a server which the inventory does not have"),
            )
            .detail(format!(
                "It receives WAL from {from}, and no server of the inventory sends to {}. Whoever is there would be left without it.",
                standby.server.address
            ))
            .hint(format!(
                "Put that server into the inventory, or let the standby follow one that is there (primary_conninfo, then SELECT pg_reload_conf();), or take \"{name}\" out of the inventory."
            )),
        )
    }

    /// It receives nothing now, and dials a server that the inventory does not have: that one may just restart.
    fn would_follow_a_stranger(self, standby: Seen<'_>, instance: &Instance) -> Option<Diagnostic> {
        let conninfo = instance.settings.get("primary_conninfo").map(|setting| setting.setting.trim())?;
        let is_known = self.topology.servers().any(|server| link::dials(conninfo, server));
        // One that has none lives on the archive of WAL alone.
        if conninfo.is_empty() || is_known {
            return None;
        }
        let name = &standby.server.name;
        Some(
            Diagnostic::error(
                Code::UnmanagedStandby,
                format!("server \"{name}\" has a standby that dials a server which the inventory does not have"),
            )
            .detail(format!(
                "It receives no WAL now. Its primary_conninfo is '{}', which names no address and port of a server of the inventory. Whoever is there would be left without it.",
                mask::passwords(conninfo)
            ))
            .hint(format!(
                "Put that server into the inventory, or let the standby follow one that is there by its address (primary_conninfo, then SELECT pg_reload_conf();), or take \"{name}\" out of the inventory."
            )),
        )
    }

    fn slot_of_somebody_else(self, standby: Seen<'_>, instance: &Instance, link: &Link) -> Option<Diagnostic> {
        let slot = standby.server.name.slot_name();
        let upstream = self.servers.get(&link.upstream)?;
        let row = upstream.instance?.slots.get(&slot)?;
        let is_its = || {
            let uses = instance.receiver.as_ref().is_some_and(|receiver| receiver.slot_name.as_ref() == Some(&slot));
            uses || self.senders_to(standby, *upstream).any(|sender| sender.slot_name.as_ref() == Some(&slot))
        };
        let is_taken = row.slot_type != "physical" || row.active && !is_its();
        is_taken.then(|| {
            let message = format!("server \"{}\": slot \"{slot}\" is used by somebody else", link.upstream);
            Diagnostic::error(Code::SlotInUse, message)
                .server(&link.upstream)
                .detail(format!("It would be the slot of standby \"{}\".", standby.server.name))
                .hint("Give the standby another name in the inventory, or the other consumer another slot.")
        })
    }

    /// Commits that wait for a name which a standby has until it joins would wait for ever.
    pub fn names_that_go(self, primary: Seen<'_>, links: &[Link]) -> Option<Diagnostic> {
        let instance = primary.instance?;
        let joining: Vec<Seen<'a>> = self.servers.values().filter(|seen| seen.joins()).copied().collect();
        if joining.is_empty() {
            return None;
        }
        let value = &instance.settings.get("synchronous_standby_names")?.setting;
        let wish = SyncNames::parse(value)?;
        let upstream = self.servers.get(&primary.server.name)?;
        let going: BTreeSet<i32> =
            joining.iter().flat_map(|standby| self.senders_to(*standby, *upstream)).map(|sender| sender.pid).collect();
        let stays = wish.there(|one| {
            let is_named = |name: &str| name.eq_ignore_ascii_case(one);
            // One that is to follow another standby streams from the primary no more.
            links.iter().any(|link| link.upstream == primary.server.name && is_named(link.standby.as_str()))
                || instance
                    .senders
                    .iter()
                    .any(|sender| is_named(&sender.application_name) && !going.contains(&sender.pid))
        });
        (stays < wish.count).then(|| {
            let name = &primary.server.name;
            Diagnostic::error(Code::SyncNamesForeign, format!("server \"{name}\": commits wait for standbys that get another name, or another upstream"))
                .server(name)
                .detail(format!("synchronous_standby_names is '{value}'. An adopted standby streams under its name in the inventory, from the upstream that it has there, and commits would wait for ever."))
                .hint("Name there as many standbys that follow this server as commits wait for, as in the inventory, or take it back for the adoption: synchronous_standby_names = ''; SELECT pg_reload_conf(); To promise it for every primary: replication.synchronous.")
        })
    }

    /// Returns what the operator should know of a standby that joins.
    pub fn notes(self, standby: Seen<'_>, link: &Link) -> Vec<Diagnostic> {
        let Some(instance) = standby.instance else { return Vec::new() };
        let name = &standby.server.name;
        let mut detail = vec![format!(
            "Nothing is copied. Its configuration stays the operator's; pgstead adds an included file and marked parts. It then follows \"{}\" with pgstead's certificate, through slot \"{}\".",
            link.upstream,
            name.slot_name()
        )];
        detail.extend(resets(standby).map(|set| {
            let value = mask::passwords(&set.setting);
            format!("ALTER SYSTEM RESET takes {} = '{value}' out of {}.", set.name, set.file)
        }));
        detail.extend(self.of_former_slot(standby, instance, link));
        let message = format!("server \"{name}\" has an existing standby, which is adopted as it is");
        let mut notes = vec![Diagnostic::note(Code::Adopted, message).detail(detail.join(" "))];
        notes.extend(lost::shown_in_part(self, standby));
        notes.extend(adoption::replaced_certificate(standby, instance));
        notes.extend(brought::notes(standby, instance));
        notes.extend(adoption::waiting(standby, &[]));
        notes.into_iter().map(|note| adoption::with_server(note, name)).collect()
    }

    fn of_former_slot(self, standby: Seen<'_>, instance: &Instance, link: &Link) -> Option<String> {
        if let Some(FormerSlot { upstream, name }) = self.former_slot(standby, link) {
            let cap = &self.topology.common().replication.max_slot_wal_keep_size;
            return Some(format!(
                "Slot \"{name}\" on \"{upstream}\" is dropped then: nobody else streams through it. Until then it holds no more WAL than max_slot_wal_keep_size, {cap}."
            ));
        }
        let name = &instance.settings.get("primary_slot_name")?.setting;
        let is_other = !name.is_empty() && *name != standby.server.name.slot_name();
        is_other.then(|| format!("Slot \"{name}\", which it names, stays: that it is this standby's cannot be shown. One that nobody uses you drop yourself: SELECT pg_drop_replication_slot('{name}')."))
    }

    /// Says whether a walsender of a server serves a standby that joins: what an adopted primary says of others leaves it out.
    pub fn is_of_one_that_joins(self, upstream: &ServerName, sender: &Sender) -> bool {
        let Some(upstream) = self.servers.get(upstream) else { return false };
        let mut joining = self.servers.values().filter(|seen| seen.joins());
        joining.any(|standby| self.senders_to(*standby, *upstream).any(|one| one.pid == sender.pid))
    }
}

/// What `ALTER SYSTEM` has set of the connection. A copy of a copy has a line of each, and the last counts.
fn resets<'a>(standby: Seen<'a>) -> impl Iterator<Item = &'a FileSetting> {
    let all = standby.instance.map(|instance| instance.file_settings.as_slice()).unwrap_or_default();
    let last = move |name| all.iter().rfind(|set| brought::is_of_alter_system(set) && set.name == name);
    CONNECTION.into_iter().filter(move |name| is_taken_over(standby, name)).filter_map(last)
}

/// Why a standby cannot join in the run that restarts its primary with more of what it must have as much of: it joins behind that.
pub(in crate::plan) fn too_few(primary: &Decided<'_>, standby: Seen<'_>) -> Vec<Diagnostic> {
    let Change::Restart { parameters } = &primary.change else { return Vec::new() };
    let ours = adoption::our_settings(primary.seen, &primary.wanted);
    let (name, of) = (&standby.server.name, &primary.seen.server.name);
    let judge = |(parameter, direction): &(String, Direction)| {
        let has = standby.instance?.settings.get(parameter)?;
        let wanted = ours.get(parameter).filter(|_| *direction == Direction::Rises)?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let is_enough =
            is_same_value(wanted, &has.setting, has.unit.as_deref()) || number(&has.setting) >= number(wanted);
        (!is_enough).then(|| {
            Diagnostic::error(
                Code::HotStandbyParametersMixed,
                format!(
                    "{parameter} would rise on \"{of}\", and standby \"{name}\", which is adopted behind it, has less"
                ),
            )
            .server(name)
            .detail(format!(
                "It has {}, the primary gets {wanted}. A standby with less than its primary stops replaying.",
                has.setting
            ))
            .hint(format!(
                "Set {parameter} = {wanted} in the configuration of \"{name}\" and restart it; then run again."
            ))
        })
    };
    parameters.iter().filter_map(judge).collect()
}

/// Adds the steps by which a standby joins, and returns the last: its files; a login with them, before what it has now is taken back;
/// its new connection, which is proven; the end of the slot that it needs no more (`former`, with the server that has it); its mark
/// with its start guard, which starts nothing without one.
pub(in crate::plan) fn join(
    plan: &mut PlanBuilder,
    topology: &Topology,
    server: &Decided<'_>,
    link: &Link,
    primary: &ServerName,
    former: Option<(Seen<'_>, &FormerSlot)>,
    mut before: Vec<StepId>,
) -> StepId {
    let seen = server.seen;
    let (name, layout) = (&seen.server.name, seen.layout);
    let guard = layout.guard_drop_in();
    let is_of_guard = |entry: &Entry| {
        guard.as_deref().is_some_and(|path| {
            path == entry.path() || path.rsplit_once('/').map(|(home, _)| home) == Some(entry.path())
        })
    };
    let (of_guard, files): (Vec<Entry>, Vec<Entry>) = server.install.iter().cloned().partition(is_of_guard);
    if !files.is_empty() {
        let title = "adopt the existing standby: install pgstead's part of its configuration";
        let step = files::install(name, seen.seen, layout, title, &files, None).then(server.behind.clone());
        before = vec![plan.add(step, before)];
    }
    // The password that it has now is nowhere once it is taken back.
    if let Some(upstream) = topology.server(&link.upstream) {
        let title = format!("log in to \"{}\" for replication, as it will then", link.upstream);
        let command = service::log_in(topology, seen, upstream);
        before = vec![plan.add(Step::run(name, Risk::Read, title, vec![command]), before)];
    }
    let reset: Vec<&str> = resets(seen).map(|set| set.name.as_str()).collect();
    let text = sql::reset(reset.iter().copied())
        .then(sql::reload())
        .then(sql::await_connection(&layout.own("tls/client.crt"), &name.slot_name()));
    let title = match reset.as_slice() {
        [] => "go over to pgstead's connection: reload".to_owned(),
        some => format!("go over to pgstead's connection: ALTER SYSTEM RESET {}; reload", some.join(", ")),
    };
    let moved = Step::run(name, Risk::Reversible, title, vec![sql::psql(layout, seen.server, text)]);
    let moved = plan.add(moved, before);
    let mut last = plan.add(Step::prove(primary, vec![link.clone()]), [moved]);
    if let Some((upstream, slot)) = former {
        let title = format!("drop slot \"{}\", which \"{name}\" had before", slot.name);
        let command = sql::psql(upstream.layout, upstream.server, sql::drop_former_slot(&slot.name));
        last = plan.add(Step::run(&upstream.server.name, Risk::Reversible, title, vec![command]), [last]);
    }
    let marks = seed::marks(seen, &server.wanted, &layout.data_directory);
    let is_mark = |entry: &Entry| !entry.path().ends_with("/standby.signal");
    let entries: Vec<Entry> = marks.into_iter().filter(is_mark).chain(of_guard).collect();
    let title = format!("make it this topology's: write its mark, {}", identity::FILE);
    last = plan.add(files::install(name, seen.seen, layout, title, &entries, None), [last]);
    if matches!(server.change, Change::Restart { .. }) {
        let restarted = plan.add(service::restart(seen), [last]);
        let title = format!("prove that replay goes on after the restart of \"{name}\"");
        last = plan.add(Step { title, ..Step::prove(primary, vec![link.clone()]) }, [restarted]);
    }
    last
}

/// Returns the files of an instance that wait for a reload and were written by pgstead: a run was interrupted before it.
pub(super) fn written_by_us(seen: Seen<'_>, file: &str) -> bool {
    let fact = |path: &str| seen.seen.files.get(path).and_then(Observed::known);
    let recorded = fact(&seen.layout.own("manifest")).and_then(|fact| fact.content.as_deref()).unwrap_or_default();
    fact(file)
        .is_some_and(|fact| recorded.lines().any(|line| line.split_once("  ") == Some((fact.sha256.as_str(), file))))
}
