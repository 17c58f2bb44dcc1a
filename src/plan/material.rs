//! What a plan needs besides topology and observation: secrets, certificates, the run's name, the time.
//!
//! Made before planning, in memory; planning itself draws nothing and writes nothing.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::name::ServerName;
use crate::model::secret::Secret;
use crate::pki::RolePassword;
use crate::quote::pgpass;
use crate::render::hba::roles;

/// The material of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Material {
    /// A short unique name of the run: letters and digits.
    pub run: String,
    /// The certificate of the topology's CA, PEM; none where another machine holds that CA: then nobody's trust is changed.
    pub ca_certificate: Option<String>,
    /// The certificate of the CA whose place it takes, PEM, for as long as that goes on: servers may have certificates of it.
    pub former: Option<String>,
    /// The CA that another machine holds, where one does: this run issues no certificate.
    pub elsewhere: Option<Authority>,
    /// Certificates and keys issued for this run. A plan uses those of servers whose own are missing, foreign or old.
    pub leaves: BTreeMap<ServerName, Leaf>,
    /// The servers that get new certificates in this run, or need them, each with the reason.
    pub certificates_to_replace: BTreeMap<ServerName, Due>,
    /// The passwords of application roles, as far as this machine knows them.
    pub passwords: BTreeMap<String, RolePassword>,
    /// The password of the replication role; none where another machine holds it: servers keep what they have.
    pub replication: Option<Replication>,
    /// Whether the servers use another password of it than the one that this machine keeps.
    pub is_password_elsewhere: bool,
}

/// Why a server's certificates are to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// They do not serve, or not for long: missing, of another CA, about to expire, for other addresses. What it is, in words.
    Unfit(String),
    /// They serve, and the operator wishes others.
    Wished,
}

impl fmt::Display for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfit(why) => f.write_str(why),
            Self::Wished => f.write_str("they are rotated"),
        }
    }
}

impl Material {
    /// Returns the CAs of this machine that servers may have certificates of.
    pub fn authorities(&self) -> Vec<&str> {
        self.ca_certificate.iter().chain(&self.former).map(String::as_str).collect()
    }
}

/// The password of the replication role, as far as a plan needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// The password, and its SCRAM verifier, which is what a server receives.
    pub role: RolePassword,
    /// The SHA-256 of that verifier's text, hexadecimal.
    pub verifier_sha256: String,
    /// Whether it was made in this run: every server is to get it.
    pub is_new: bool,
}

impl Replication {
    /// Makes it of what this machine keeps.
    pub fn of(role: &RolePassword, is_new: bool) -> Self {
        Self { role: role.clone(), verifier_sha256: role.verifier_sha256(), is_new }
    }

    /// Returns the passfile, from which a standby logs in to its upstream.
    pub fn passfile(&self) -> Secret {
        pgpass::line("*", "*", "*", roles::REPLICATOR, &self.role.password)
    }
}

/// The certificates of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The server certificate, PEM.
    pub server_certificate: String,
    /// Its private key, PEM.
    pub server_key: Secret,
    /// The client certificate, PEM.
    pub client_certificate: String,
    /// Its private key, PEM.
    pub client_key: Secret,
    /// Names the pair: the first digits of the server certificate's fingerprint.
    pub id: String,
}

/// A CA that servers use, as they show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// A server that uses it.
    pub server: ServerName,
    /// Its certificate, PEM; none where the server has only certificates that it signed.
    pub certificate: Option<String>,
    /// Who made it, where it says so.
    pub maker: Option<String>,
    /// When it was made, where that is known.
    pub since: Option<Timestamp>,
}
