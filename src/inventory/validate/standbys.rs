//! Judges who streams from whom, and which standbys a commit waits for.

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, list, shown};
use crate::inventory::raw;
use crate::inventory::validate::Judge;
use crate::model::topology::{Kind, Synchronous, SynchronousMode, TopologyError};
use crate::model::{ServerName, Topology};

impl Judge<'_, '_> {
    /// Adds what keeps the servers from making a topology, also where single servers have problems of their own.
    pub(super) fn topology_of_servers(&mut self) {
        let Some(raw) = &self.raw.servers else { return };
        let path = Path::of(&["servers"]);
        let kinds: Vec<(ServerName, Kind)> = raw
            .iter()
            .filter_map(|(key, server)| {
                let kind = match server.kind {
                    Some(raw::Kind::Primary) => Kind::Primary,
                    _ => Kind::Standby { upstream: server.upstream.clone() },
                };
                Some((key.parse().ok()?, kind))
            })
            .collect();
        let all_known = kinds.len() == raw.len() && raw.values().all(|server| server.kind.is_some());
        for error in Topology::shape(&kinds).err().unwrap_or_default() {
            let message = error.to_string();
            match error {
                TopologyError::NoPrimary if !all_known => {} // The primary may be one of those with a problem.
                TopologyError::NoPrimary => {
                    let problem = Diagnostic::error(Code::NoPrimary, message)
                        .hint("Give \"kind: primary\" to the server that is to be the primary on the first day.");
                    self.problems.add(&path, problem);
                }
                TopologyError::SeveralPrimaries { names } => {
                    let second = names.get(1).map_or("", ServerName::as_str);
                    let problem = Diagnostic::error(Code::SeveralPrimaries, message)
                        .detail("A topology has one primary; all other servers are standbys.");
                    self.problems.add(&path.key(second).key("kind"), problem);
                }
                TopologyError::UnknownUpstream { standby, upstream } => {
                    if raw.contains_key(&upstream) {
                        continue; // It is there, under a name that has been refused.
                    }
                    let message = format!(
                        "standby \"{standby}\" names upstream {}, which is not in the inventory",
                        shown(&upstream)
                    );
                    let others = raw.keys().map(String::as_str).filter(|key| *key != standby.as_str());
                    let problem =
                        Self::unknown_name(Code::UnknownUpstream, message, "other servers", &upstream, others);
                    self.problems.add(&path.key(standby.as_str()).key("upstream"), problem);
                }
                TopologyError::Cycle { names } => {
                    let first = names.first().map_or("", ServerName::as_str);
                    let problem = Diagnostic::error(Code::UpstreamCycle, message)
                        .detail("None of them would ever receive anything.")
                        .hint("Let one of them stream from the primary: remove its \"upstream\".");
                    self.problems.add(&path.key(first).key("upstream"), problem);
                }
            }
        }
    }

    /// Returns the wish for synchronous replication, where its standbys can be told from the names.
    pub(super) fn synchronous(&mut self, wish: &raw::Synchronous) -> Option<Synchronous> {
        let path = Path::of(&["replication", "synchronous"]);
        let names = wish.standbys.clone()?;
        let count = usize::try_from(wish.count.unwrap_or(1)).unwrap_or(usize::MAX);
        if names.is_empty() {
            let problem =
                Diagnostic::error(Code::SynchronousWithoutStandbys, "synchronous replication names no standbys")
                    .hint("Name the standbys that a commit waits for, or write \"synchronous: off\".");
            self.problems.add(&path.key("standbys"), problem);
        } else if count > names.len() {
            let message = format!("{count} synchronous standbys are wanted, {} named", names.len());
            let problem =
                Diagnostic::error(Code::SynchronousCount, message).detail("Every commit would wait for ever.");
            self.problems.add(&path.key("count"), problem);
        }
        let mut standbys = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(problem) = self.synchronous_standby(name, names.get(..index).unwrap_or_default()) {
                self.problems.add(&path.key("standbys").index(index), problem);
            }
            standbys.extend(name.parse::<ServerName>());
        }
        let mode = match wish.mode {
            Some(raw::SynchronousMode::First) => SynchronousMode::First,
            Some(raw::SynchronousMode::Any) | None => SynchronousMode::Any,
        };
        Some(Synchronous { mode, count, standbys })
    }

    fn synchronous_standby(&self, name: &str, earlier: &[String]) -> Option<Diagnostic> {
        let servers = self.raw.servers.as_ref()?;
        let is_primary = |server: &raw::Server| server.kind == Some(raw::Kind::Primary);
        let Some(server) = servers.get(name) else {
            let standbys = servers.iter().filter(|(_, server)| !is_primary(server)).map(|(key, _)| key.as_str());
            let message = format!("synchronous standby {} is not in the inventory", shown(name));
            return Some(Self::unknown_name(Code::UnknownSynchronousStandby, message, "standbys", name, standbys));
        };
        if is_primary(server) {
            let message = format!("synchronous standby {} is the primary", shown(name));
            return Some(Diagnostic::error(Code::SynchronousPrimary, message));
        }
        if earlier.iter().any(|other| other == name) {
            let message = format!("synchronous standby {} is named twice", shown(name));
            return Some(Diagnostic::error(Code::DuplicateSynchronousStandby, message));
        }
        let upstream = server.upstream.as_ref()?;
        let direct = servers.get(upstream).is_none_or(is_primary);
        (!direct).then(|| {
            let primaries = servers.iter().filter(|(_, server)| is_primary(server)).map(|(key, _)| key);
            Diagnostic::error(
                Code::CascadingSynchronousStandby,
                format!("synchronous standby {} streams from {}, not from the primary", shown(name), shown(upstream)),
            )
            .detail(format!(
                "A commit on {} can wait only for standbys that stream from it directly (manual, 27.2.7).",
                list(primaries)
            ))
        })
    }
}
