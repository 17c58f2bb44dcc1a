//! Judges an inventory and makes the topology of it.
//!
//! Every check of this module looks at the whole inventory and adds what it finds; none stops the others. What is wrong
//! with one server does not hide what is wrong with another. Warnings are given only where there is no error.

mod access;
mod certificates;
mod pooler;
mod roles;
mod servers;
mod standbys;
mod thresholds;
mod warnings;

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, Problems, did_you_mean, list, shown};
use crate::inventory::schema::json_schema;
use crate::inventory::shape::conform;
use crate::inventory::tree::{Node, Place, Value};
use crate::inventory::words::Refusal;
use crate::inventory::{raw, words};
use crate::model::parameter::{self, ParameterName, Parameters};
use crate::model::topology::{Authentication, Common, Hooks, Objectives, Purpose, Replication, Site};
use crate::model::{Major, SiteName, Topology};

/// The port of an instance where the inventory gives none.
pub const DEFAULT_PORT: u16 = 5432;

/// The cap on WAL that a slot may hold back where the inventory gives none.
///
/// PostgreSQL's own default is no cap, and an absent standby then fills the disk of its upstream (hazard 45). 64GB is
/// four thousand segments: an hour at a busy 18 MB/s, a day at a common 0.8 MB/s. It is long enough for a night's
/// outage of an ordinary system, and small beside a disk that holds a database worth replicating; `preflight` compares
/// it with the free space.
pub const DEFAULT_MAX_SLOT_WAL_KEEP_SIZE: &str = "64GB";

/// How long a switchover waits for transactions that began before it unless the inventory says otherwise, in seconds.
pub const DEFAULT_DRAIN_TIMEOUT_S: u64 = 5;

/// How long a hook may take unless the inventory says otherwise, in seconds.
pub const DEFAULT_HOOK_TIMEOUT_S: u64 = 30;

/// The directories that paths on the operator's machine start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The directory of the inventory; relative paths start there.
    pub base: PathBuf,
    /// The operator's home directory; `~/` means it. Where it is not known such a path is kept as written.
    pub home: Option<PathBuf>,
}

impl Places {
    /// Returns the path that a text of the inventory means.
    pub fn resolve(&self, written: &str) -> PathBuf {
        match (written.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            (Some(_), None) => PathBuf::from(written),
            (None, _) => self.base.join(FilePath::new(written)),
        }
    }
}

/// Reads an inventory; paths on the operator's machine stay as written. Returns the topology and the warnings.
///
/// # Errors
/// Every problem of the text, in the order of the text.
pub fn read(text: &str, file_name: &str) -> Result<(Topology, Vec<Diagnostic>), Vec<Diagnostic>> {
    parse(text, file_name, None)
}

/// Reads an inventory and resolves paths on the operator's machine. Returns the topology and the warnings.
///
/// # Errors
/// Every problem of the text, in the order of the text.
pub fn read_at(text: &str, file_name: &str, places: &Places) -> Result<(Topology, Vec<Diagnostic>), Vec<Diagnostic>> {
    parse(text, file_name, Some(places))
}

fn parse(text: &str, file_name: &str, places: Option<&Places>) -> Result<(Topology, Vec<Diagnostic>), Vec<Diagnostic>> {
    let tree = tree(text, file_name)?;
    let mut problems = Problems::new(file_name, &tree);
    let fitting = conform(&tree, &json_schema(), &mut problems);
    let topology = match raw::Inventory::deserialize(fitting) {
        Ok(raw) => Judge { raw: &raw, places, problems: &mut problems }.topology(),
        Err(error) => {
            // The schema and the types come from one source; this is the net below.
            problems.add(&Path::default(), Diagnostic::error(Code::WrongType, error.to_string()));
            None
        }
    };
    match topology {
        Some(topology) if problems.is_empty() => {
            warnings::add(&topology, &tree, &mut problems);
            Ok((topology, problems.into_diagnostics()))
        }
        _ => Err(problems.into_diagnostics()),
    }
}

/// Reads the YAML of a text; the error is a list of one, as its callers return lists.
pub(super) fn tree(text: &str, file_name: &str) -> Result<Node, Vec<Diagnostic>> {
    let tree = Node::parse(text).map_err(|error| {
        let place = error.place.unwrap_or(Place::START);
        let problem = Diagnostic::error(Code::InvalidYaml, "the text is not valid YAML")
            .at(format!("{file_name}:{place}"))
            .detail(format!("The reader says: {}.", error.message));
        vec![problem]
    })?;
    if matches!(tree.value, Value::Null) {
        let problem = Diagnostic::error(Code::EmptyInventory, "the inventory is empty")
            .at(format!("{file_name}:{}", Place::START))
            .hint("\"pgstead init\" writes one to begin with.");
        return Err(vec![problem]);
    }
    Ok(tree)
}

/// Returns the problem of a word that is refused.
pub(super) fn refused(code: Code, what: &str, text: &str, refusal: Refusal) -> Diagnostic {
    let problem = Diagnostic::error(code, format!("invalid {what} {}: {}", shown(text), refusal.reason));
    match refusal.hint {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}

/// Looks at the raw inventory from all sides.
struct Judge<'a, 'p> {
    raw: &'a raw::Inventory,
    places: Option<&'a Places>,
    problems: &'a mut Problems<'p>,
}

impl<'a> Judge<'a, '_> {
    /// Returns the topology, or nothing where a problem has been added.
    fn topology(mut self) -> Option<Topology> {
        let name = self.raw.topology.as_deref().map(|text| self.name(&Path::of(&["topology"]), "topology name", text));
        let version = self.version();
        let databases = self.databases();
        let roles = self.roles(&databases);
        let parameters = self.parameters(&Path::of(&["postgres", "parameters"]), self.postgres(|p| &p.parameters));
        let hba = self.hba();
        let sites = self.sites();
        let replication = self.replication();
        let lifetimes = self.lifetimes();
        let thresholds = self.thresholds(lifetimes);
        let pooler = self.pooler(&databases);
        let servers = self.servers(&sites);
        if !self.problems.is_empty() {
            return None;
        }
        let purpose = match self.raw.purpose {
            Some(raw::Purpose::Lab) => Purpose::Lab,
            Some(raw::Purpose::Production) | None => Purpose::Production,
        };
        let mut all_sites = sites;
        for (server, _) in &servers {
            all_sites.entry(server.site.clone()).or_default();
        }
        let common = Common {
            name: name??,
            purpose,
            version: version?,
            databases,
            roles,
            replace_certificate: self.postgres(|p| &p.replace_certificate).copied().unwrap_or(false),
            parameters,
            hba,
            sites: all_sites,
            replication,
            hooks: self.hooks(),
            drain_timeout_s: self
                .raw
                .clients
                .and_then(|clients| clients.drain_timeout_s)
                .unwrap_or(DEFAULT_DRAIN_TIMEOUT_S),
            pooler,
            objectives: Objectives {
                rto_s: self.raw.objectives.and_then(|objectives| objectives.rto_s),
                rpo_s: self.raw.objectives.and_then(|objectives| objectives.rpo_s).unwrap_or_default(),
            },
            lifetimes,
            thresholds,
        };
        match Topology::new(common, servers) {
            Ok(topology) => Some(topology),
            Err(errors) => {
                for error in errors {
                    self.problems.add(&Path::of(&["servers"]), Diagnostic::error(Code::NoTopology, error.to_string()));
                }
                None
            }
        }
    }

    fn postgres<T>(&self, field: impl Fn(&'a raw::Postgres) -> &'a Option<T>) -> Option<&'a T> {
        let raw: &'a raw::Inventory = self.raw;
        raw.postgres.as_ref().and_then(|postgres| field(postgres).as_ref())
    }

    fn name<N: FromStr<Err = crate::model::name::NameError>>(
        &mut self,
        path: &Path,
        what: &str,
        text: &str,
    ) -> Option<N> {
        text.parse()
            .map_err(|error: crate::model::name::NameError| {
                let problem = Diagnostic::error(Code::InvalidName, format!("invalid {what} {}: {error}", shown(text)));
                self.problems.add(path, problem);
            })
            .ok()
    }

    /// Judges one word and says whether it passed.
    fn word(
        &mut self,
        path: &Path,
        code: Code,
        what: &str,
        text: &str,
        check: fn(&str) -> Result<(), Refusal>,
    ) -> bool {
        match check(text) {
            Ok(()) => true,
            Err(refusal) => {
                self.problems.add(path, refused(code, what, text, refusal));
                false
            }
        }
    }

    fn version(&mut self) -> Option<Major> {
        let number = *self.postgres(|p| &p.version)?;
        match Major::try_from(number) {
            Ok(major) => Some(major),
            Err(error) => {
                let problem = Diagnostic::error(Code::UnsupportedVersion, error.to_string());
                self.problems.add(&Path::of(&["postgres", "version"]), problem);
                None
            }
        }
    }

    fn databases(&mut self) -> Vec<String> {
        let databases = self.postgres(|p| &p.databases).cloned().unwrap_or_default();
        let path = Path::of(&["postgres", "databases"]);
        for (index, text) in databases.iter().enumerate() {
            let own = path.index(index);
            if self.word(&own, Code::InvalidDatabase, "database", text, words::database)
                && databases.iter().take(index).any(|earlier| earlier == text)
            {
                let problem = Diagnostic::error(Code::DuplicateDatabase, format!("database {text:?} is named twice"));
                self.problems.add(&own, problem);
            }
        }
        databases
    }

    fn parameters(&mut self, path: &Path, given: Option<&BTreeMap<String, raw::ParameterValue>>) -> Parameters {
        let given = given.cloned().unwrap_or_default();
        let mut parameters = Parameters::new();
        for (key, value) in given {
            let own = path.key(&key);
            let Ok(name) = key.parse::<ParameterName>() else {
                let problem =
                    Diagnostic::error(Code::InvalidParameter, format!("invalid parameter name {}", shown(&key)));
                self.problems.add(&own, problem);
                continue;
            };
            if let Some(instead) = parameter::managed(&name, &value.0) {
                let problem =
                    Diagnostic::error(Code::ManagedParameter, format!("parameter \"{name}\" is set by pgstead"))
                        .hint(instead_of(instead));
                self.problems.add(&own, problem);
                continue;
            }
            if let Err(refusal) = words::parameter_value(&value.0) {
                // The value is not shown: an archive_command may hold a secret.
                let message = format!("invalid value of parameter \"{name}\": {}", refusal.reason);
                self.problems.add(&own, Diagnostic::error(Code::InvalidParameter, message));
            }
            if parameters.contains_key(&name) {
                let problem = Diagnostic::error(Code::DuplicateParameter, format!("parameter \"{name}\" is set twice"))
                    .detail("Case does not matter in names of parameters.");
                self.problems.add(&own, problem);
            }
            parameters.insert(name, value.0);
        }
        parameters
    }

    fn sites(&mut self) -> BTreeMap<SiteName, Site> {
        let mut sites = BTreeMap::new();
        for (key, site) in self.raw.sites.iter().flatten() {
            let path = Path::of(&["sites", key]);
            let site = site.clone().unwrap_or_default();
            for (field, text) in [("location", &site.location), ("region", &site.region)] {
                if let Some(text) = text {
                    self.word(&path.key(field), Code::InvalidText, field, text, words::remark);
                }
            }
            if let Some(name) = self.name(&path, "site name", key) {
                sites.insert(name, Site { location: site.location, region: site.region });
            }
        }
        sites
    }

    fn hooks(&self) -> Hooks {
        let raw = self.raw.hooks.clone().unwrap_or_default();
        let path = |text: String| self.places.map_or_else(|| text.clone().into(), |places| places.resolve(&text));
        Hooks {
            before: raw.before.map(path),
            after: raw.after.map(path),
            timeout_s: raw.timeout_s.unwrap_or(DEFAULT_HOOK_TIMEOUT_S),
        }
    }

    fn replication(&mut self) -> Replication {
        let raw = self.raw.replication.clone().unwrap_or_default();
        let size = raw.max_slot_wal_keep_size.unwrap_or_else(|| DEFAULT_MAX_SLOT_WAL_KEEP_SIZE.to_owned());
        if let Err(refusal) = words::size(&size) {
            let problem = refused(Code::InvalidSize, "max_slot_wal_keep_size", &size, refusal);
            self.problems.add(&Path::of(&["replication", "max_slot_wal_keep_size"]), problem);
        }
        Replication {
            authentication: match raw.authentication {
                Some(raw::Authentication::ScramSha256) => Authentication::ScramSha256,
                Some(raw::Authentication::Certificate) | None => Authentication::Certificate,
            },
            synchronous: match &raw.synchronous {
                Some(raw::SynchronousChoice::On(wish)) => self.synchronous(wish),
                Some(raw::SynchronousChoice::Off) | None => None,
            },
            max_slot_wal_keep_size: size,
            start_alone: raw.start_alone.unwrap_or_default(),
        }
    }

    /// Returns the problem of a name that is not in the inventory.
    fn unknown_name<'n>(
        code: Code,
        message: String,
        what: &str,
        word: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) -> Diagnostic {
        let problem = Diagnostic::error(code, message).detail(format!("Known {what} are {}.", list(known.clone())));
        did_you_mean(problem, word, known)
    }
}

fn instead_of(text: &str) -> String {
    if text.contains('.') && !text.contains(' ') {
        return format!("Use {text} instead.");
    }
    let mut rest = text.chars();
    let first: String = rest.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
topology: t
postgres: { version: 17, port: 5433, parameters: { archive_mode: off, random_page_cost: 1.10 } }
servers:
  a: { address: 10.0.0.1, kind: primary, ssh: { port: 2222, jump: [], identity_file: /etc/key } }
  b: { address: 10.0.0.2, kind: standby, postgres: { port: 5434 }, ssh: { known_hosts: ../hosts } }
ssh: { user: ops, port: 22, jump: bastion, identity_file: ~/.ssh/ops, known_hosts: known_hosts }
";

    #[test]
    fn a_server_overrides_ssh_key_by_key_and_paths_are_resolved() {
        let places = Places { base: "/srv/inventories".into(), home: Some("/home/op".into()) };
        let (topology, _) = read_at(TEXT, "i", &places).unwrap();
        let shown: Vec<String> = topology.servers().map(|server| format!("{} {:?}", server.port, server.ssh)).collect();
        assert_eq!(
            shown,
            [
                "5433 Ssh { user: Some(\"ops\"), port: Some(2222), jump: [], identity_file: Some(\"/etc/key\"), \
                 known_hosts: Some(\"/srv/inventories/known_hosts\") }",
                "5434 Ssh { user: Some(\"ops\"), port: Some(22), jump: [\"bastion\"], identity_file: \
                 Some(\"/home/op/.ssh/ops\"), known_hosts: Some(\"/srv/inventories/../hosts\") }"
            ]
        );
        let (as_written, _) = read(TEXT, "i").unwrap();
        let files: Vec<_> = as_written.servers().map(|server| server.ssh.identity_file.clone()).collect();
        assert_eq!(files, [Some("/etc/key".into()), Some("~/.ssh/ops".into())]);
    }

    #[test]
    fn parameters_have_the_text_as_written() {
        let (topology, _) = read(TEXT, "i").unwrap();
        let shown: Vec<String> =
            topology.common().parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["archive_mode=off", "random_page_cost=1.10"]);
    }
}
