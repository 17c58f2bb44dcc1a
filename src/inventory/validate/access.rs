//! Judges who may come in: HBA records for clients, and SSH.

use crate::diagnostic::{Code, Diagnostic};
use crate::inventory::problems::{Path, did_you_mean, shown};
use crate::inventory::validate::Judge;
use crate::inventory::{raw, words};
use crate::model::hba::{Cidr, CidrError, HbaMethod, HbaRecord};
use crate::model::topology::Ssh;

/// The roles of pgstead itself (design, section 7); records for them are rendered, never given.
pub(super) const OWN_ROLES: [&str; 3] = ["pgstead", "pgstead_rewind", "replicator"];

const METHODS: [&str; 3] = ["scram-sha-256", "cert", "reject"];

impl Judge<'_, '_> {
    /// Returns the HBA records; what is wrong with one is added to the problems.
    pub(super) fn hba(&mut self) -> Vec<HbaRecord> {
        let records = self.postgres(|postgres| &postgres.hba).cloned().unwrap_or_default();
        let path = Path::of(&["postgres", "hba"]);
        records.iter().enumerate().filter_map(|(index, record)| self.hba_record(record, &path.index(index))).collect()
    }

    fn hba_record(&mut self, raw: &raw::Hba, path: &Path) -> Option<HbaRecord> {
        self.hba_type(raw.kind.as_deref().unwrap_or("hostssl"), &path.key("type"));
        let method = self.hba_method(raw.method.as_deref().unwrap_or("scram-sha-256"), &path.key("method"));
        let database = raw.database.as_deref().filter(|text| self.hba_database(text, &path.key("database")));
        let user = raw.user.as_deref().filter(|text| self.hba_user(text, &path.key("user")));
        let address = raw.address.as_deref().and_then(|text| self.hba_address(text, &path.key("address")));
        Some(HbaRecord { database: database?.to_owned(), user: user?.to_owned(), address: address?, method: method? })
    }

    fn hba_type(&mut self, text: &str, path: &Path) {
        let problem = match text {
            "hostssl" => return,
            "host" | "hostnossl" | "hostgssenc" | "hostnogssenc" => Diagnostic::error(
                Code::HbaWithoutTls,
                format!("an HBA record of type {text:?} admits clients without TLS"),
            )
            .hint("Use \"hostssl\"."),
            "local" => {
                Diagnostic::error(Code::HbaWithoutTls, "an HBA record of type \"local\" is not for clients elsewhere")
                    .detail("The Unix-domain socket belongs to the OS user of the instance; pgstead needs it so.")
                    .hint("Use \"hostssl\".")
            }
            other => did_you_mean(
                Diagnostic::error(Code::UnknownWord, format!("unknown type of HBA record {}", shown(other)))
                    .detail("The known type here is \"hostssl\"."),
                other,
                ["hostssl"],
            ),
        };
        self.problems.add(path, problem);
    }

    fn hba_method(&mut self, text: &str, path: &Path) -> Option<HbaMethod> {
        let problem = match text {
            "scram-sha-256" => return Some(HbaMethod::ScramSha256),
            "cert" => return Some(HbaMethod::Cert),
            "reject" => return Some(HbaMethod::Reject),
            "trust" | "password" | "md5" | "ident" | "peer" | "gss" | "sspi" | "ldap" | "radius" | "pam" | "bsd" => {
                let method = format!("HBA method {text:?} is not supported");
                let detail = match text {
                    "trust" => Some("It admits everybody who reaches the port."),
                    "password" => Some("It sends the password as it is."),
                    "md5" => Some("It is broken, and PostgreSQL 18 deprecates it."),
                    "ident" => Some("It believes what the client's machine says."),
                    _ => None,
                };
                let problem = Diagnostic::error(Code::HbaMethod, method).hint("Use \"scram-sha-256\" or \"cert\".");
                match detail {
                    Some(detail) => problem.detail(detail),
                    None => problem,
                }
            }
            other => did_you_mean(
                Diagnostic::error(Code::UnknownWord, format!("unknown HBA method {}", shown(other)))
                    .detail("Known words here are \"scram-sha-256\", \"cert\" and \"reject\"."),
                other,
                METHODS,
            ),
        };
        self.problems.add(path, problem);
        None
    }

    fn hba_database(&mut self, text: &str, path: &Path) -> bool {
        if text == "replication" {
            let problem = Diagnostic::error(Code::HbaReplication, "HBA records for replication are pgstead's own")
                .detail("It writes one for every server on every server, so that any role change works.")
                .hint("Remove the record.");
            self.problems.add(path, problem);
            return false;
        }
        let judge = |text: &str| words::database(text).and_then(|()| words::hba_name(text));
        text == "all" || self.word(path, Code::InvalidDatabase, "database", text, judge)
    }

    fn hba_user(&mut self, text: &str, path: &Path) -> bool {
        if OWN_ROLES.iter().any(|role| role.eq_ignore_ascii_case(text)) {
            let problem = Diagnostic::error(Code::HbaOwnRole, format!("role {text:?} is pgstead's own"))
                .detail("A record of the inventory could open it to others, or shut pgstead out.")
                .hint("Remove the record, or name another role.");
            self.problems.add(path, problem);
            return false;
        }
        self.word(path, Code::InvalidRole, "role", text, words::hba_name)
    }

    fn hba_address(&mut self, text: &str, path: &Path) -> Option<Cidr> {
        let problem = match text.parse::<Cidr>() {
            Ok(range) if range.prefix() == 0 => {
                Diagnostic::error(Code::HbaCatchAll, format!("address range {text:?} is the whole internet"))
                    .hint("Name the networks of the clients.")
            }
            Ok(range) => return Some(range),
            Err(CidrError::HostBits { meant, .. }) => Diagnostic::error(
                Code::InvalidRange,
                format!("address range {} has bits set behind its prefix", shown(text)),
            )
            .detail("PostgreSQL would silently ignore them.")
            .hint(format!("Write \"{meant}\", or a longer prefix.")),
            Err(CidrError::Syntax { .. }) => {
                let problem = Diagnostic::error(
                    Code::InvalidRange,
                    format!("{} is not an address range such as 192.168.0.0/16", shown(text)),
                );
                match text {
                    "all" | "samehost" | "samenet" => problem.detail("Keywords admit more than a reader sees."),
                    _ => problem,
                }
            }
        };
        self.problems.add(path, problem);
        None
    }

    /// Returns how SSH reaches a server: the inventory's `ssh`, each key replaced by the server's own where given.
    pub(super) fn ssh(&mut self, own: Option<&raw::Ssh>) -> Ssh {
        let common = self.raw.ssh.clone().unwrap_or_default();
        let own = own.cloned().unwrap_or_default();
        let path = |text: String| self.places.map_or_else(|| text.clone().into(), |places| places.resolve(&text));
        Ssh {
            user: own.user.or(common.user),
            port: own.port.or(common.port),
            jump: own.jump.or(common.jump).map(|jump| jump.0).unwrap_or_default(),
            identity_file: own.identity_file.or(common.identity_file).map(path),
            known_hosts: own.known_hosts.or(common.known_hosts).map(path),
        }
    }

    /// Judges the words of one `ssh` mapping.
    pub(super) fn judge_ssh(&mut self, raw: &raw::Ssh, path: &Path) {
        if let Some(user) = &raw.user {
            self.word(&path.key("user"), Code::InvalidUser, "login user", user, words::login_user);
        }
        for (index, jump) in raw.jump.iter().flat_map(|jump| &jump.0).enumerate() {
            self.word(&path.key("jump").index(index), Code::InvalidJump, "jump host", jump, words::jump);
        }
        for (key, text) in [("identity_file", &raw.identity_file), ("known_hosts", &raw.known_hosts)] {
            if let Some(text) = text {
                self.word(&path.key(key), Code::InvalidPath, key, text, words::local_file);
            }
        }
    }
}
