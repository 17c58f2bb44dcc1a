//! `pg_hba.conf` and `pg_ident.conf`.

use std::net::IpAddr;

use serde::Serialize;

use crate::model::hba::{Cidr, HbaRecord};
use crate::quote::hba::field;
use crate::render::RenderError;

/// The map by which the OS user that owns the instance becomes the superuser.
const ADMIN_MAP: &str = "pgstead_admin";
/// The map by which pgstead's own client certificate becomes its role.
pub const OPERATOR_MAP: &str = "pgstead_operator";

/// The names of the roles that pgstead makes (design, section 7).
pub mod roles {
    /// The superuser that `initdb` makes.
    pub const SUPERUSER: &str = "postgres";
    /// pgstead's own role, also the CN of its client certificate.
    pub const OPERATOR: &str = "pgstead";
    /// The role of replication connections.
    pub const REPLICATOR: &str = "replicator";
    /// The role of `pg_rewind`.
    pub const REWIND: &str = "pgstead_rewind";
}

/// What both files of one server need to know.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// The server's name.
    pub server: String,
    /// The topology's name.
    pub topology: String,
    /// The OS user that owns the instance.
    pub os_user: String,
    /// The servers of the topology by the address from which their connections come, `address/length`.
    pub peers: Vec<PeerAccess>,
    /// The addresses at which the server reaches itself, as pgstead does behind SSH.
    pub own_addresses: Vec<IpAddr>,
    /// Whether replication authenticates by certificate (or by SCRAM with a certificate of this CA besides).
    pub by_certificate: bool,
    /// The inventory's records.
    pub records: Vec<HbaRecord>,
}

/// The servers whose connections come from one address.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerAccess {
    /// The address, as a range of one.
    pub address: String,
    /// The names of the servers, each the CN of its certificate. More than one only where servers share an address.
    pub servers: Vec<String>,
}

impl PeerAccess {
    /// One map per address: the certificate of another server is worth nothing from here (hazard 83).
    fn map(&self) -> String {
        let mut map = String::from("pgstead_");
        map.extend(self.address.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
        map
    }
}

#[derive(Serialize)]
struct HbaContext<'a> {
    server: &'a str,
    topology: &'a str,
    superuser: String,
    admin_map: &'a str,
    operator: String,
    operator_map: &'a str,
    operator_addresses: Vec<String>,
    replicator: String,
    rewind: String,
    reserved: String,
    peers: Vec<HbaPeer>,
    records: Vec<HbaLine>,
}

#[derive(Serialize)]
struct HbaPeer {
    address: String,
    method: String,
    map: String,
}

#[derive(Serialize)]
struct HbaLine {
    database: String,
    user: String,
    address: String,
    method: &'static str,
}

#[derive(Serialize)]
struct IdentContext<'a> {
    server: &'a str,
    topology: &'a str,
    os_user: String,
    superuser: String,
    admin_map: &'a str,
    operator: String,
    operator_map: &'a str,
    peers: Vec<IdentLine>,
}

#[derive(Serialize)]
struct IdentLine {
    map: String,
    certificate: String,
    role: String,
}

/// A name that stands for itself; only the keyword `all` keeps its special meaning, and only unquoted.
fn keyword_or_field(text: &str) -> String {
    if text == "all" { text.to_owned() } else { field(text) }
}

impl Access {
    /// Returns the text of `pg_hba.conf`.
    ///
    /// # Errors
    /// A defect in the template.
    pub fn render_hba(&self) -> Result<String, RenderError> {
        super::render("pg_hba.conf", &self.hba_context(&[roles::OPERATOR, roles::REPLICATOR, roles::REWIND]))
    }

    /// Returns the part of an operator's `pg_hba.conf` that stands before all other records. The given roles are ours alone:
    /// no later record lets anybody else in as them (hazard 83).
    ///
    /// # Errors
    /// A defect in the template.
    pub fn render_hba_part(&self, reserved: &[&str]) -> Result<String, RenderError> {
        super::render("pg_hba.part", &self.hba_context(reserved))
    }

    /// Returns the inventory's records, one a line, for the end of an operator's `pg_hba.conf`: what stands there decides first.
    pub fn records(&self) -> String {
        let line = |line: HbaLine| {
            [&["hostssl", &line.database, &line.user, &line.address, line.method].join(" "), "\n"].concat()
        };
        self.record_lines().map(line).collect()
    }

    fn record_lines(&self) -> impl Iterator<Item = HbaLine> {
        self.records.iter().map(|record| HbaLine {
            database: keyword_or_field(&record.database),
            user: keyword_or_field(&record.user),
            address: record.address.to_string(),
            method: record.method.as_str(),
        })
    }

    fn hba_context(&self, reserved: &[&str]) -> HbaContext<'_> {
        let peers = self.peers.iter().map(|peer| HbaPeer {
            address: peer.address.clone(),
            // PostgreSQL takes `map` only with `cert`, so beside SCRAM the certificate proves the CA, the password the role.
            method: if self.by_certificate {
                ["cert map=", &peer.map()].concat()
            } else {
                "scram-sha-256 clientcert=verify-ca".to_owned()
            },
            map: peer.map(),
        });
        let local = IpAddr::from([127, 0, 0, 1]);
        let mut operator: Vec<IpAddr> = vec![local];
        operator.extend(self.own_addresses.iter().filter(|ip| **ip != local));
        HbaContext {
            server: &self.server,
            topology: &self.topology,
            superuser: field(roles::SUPERUSER),
            admin_map: ADMIN_MAP,
            operator: field(roles::OPERATOR),
            operator_map: OPERATOR_MAP,
            operator_addresses: operator.into_iter().map(|ip| Cidr::single(ip).to_string()).collect(),
            replicator: field(roles::REPLICATOR),
            rewind: field(roles::REWIND),
            reserved: reserved.iter().map(|role| field(role)).collect::<Vec<_>>().join(","),
            peers: peers.collect(),
            records: self.record_lines().collect(),
        }
    }

    /// Returns the text of `pg_ident.conf`.
    ///
    /// # Errors
    /// A defect in the template.
    pub fn render_ident(&self) -> Result<String, RenderError> {
        super::render("pg_ident.conf", &self.ident_context())
    }

    /// Returns the part of an operator's `pg_ident.conf`: the maps that our records name.
    ///
    /// # Errors
    /// A defect in the template.
    pub fn render_ident_part(&self) -> Result<String, RenderError> {
        super::render("pg_ident.part", &self.ident_context())
    }

    fn ident_context(&self) -> IdentContext<'_> {
        let mut peers = Vec::new();
        for peer in &self.peers {
            for server in &peer.servers {
                for role in [roles::REPLICATOR, roles::REWIND] {
                    peers.push(IdentLine { map: peer.map(), certificate: field(server), role: field(role) });
                }
            }
        }
        IdentContext {
            server: &self.server,
            topology: &self.topology,
            os_user: field(&self.os_user),
            superuser: field(roles::SUPERUSER),
            admin_map: ADMIN_MAP,
            operator: field(roles::OPERATOR),
            operator_map: OPERATOR_MAP,
            peers,
        }
    }
}

/// Returns whom two files that were rendered here admit, and from where: the servers by the addresses of their connections.
pub fn admitted(hba: &str, ident: &str) -> Vec<(IpAddr, String)> {
    let places = hba.lines().filter_map(admitting);
    places.flat_map(|(ip, map)| ident.lines().filter_map(move |line| Some((ip, certificate_of(map, line)?)))).collect()
}

/// Reads a record of ours that admits servers: from where, and by which map. The one for `pg_rewind` stands in every file.
fn admitting(line: &str) -> Option<(IpAddr, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["hostssl", "postgres", role, address, "cert", map] = words.as_slice() else { return None };
    let ip = address.split_once('/')?.0.parse().ok()?;
    (*role == field(roles::REWIND)).then_some((ip, map.strip_prefix("map=")?))
}

/// Reads whose certificate a line of a map takes for that role.
fn certificate_of(map: &str, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [of, certificate, role] = words.as_slice() else { return None };
    (*of == map && *role == field(roles::REWIND)).then(|| certificate.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_file() {
        let access = Access {
            server: "a".into(),
            topology: "t".into(),
            os_user: "postgres".into(),
            peers: vec![
                PeerAccess { address: "10.0.0.1/32".into(), servers: vec!["a".into()] },
                PeerAccess { address: "10.0.0.2/32".into(), servers: vec!["b".into(), "c".into()] },
            ],
            own_addresses: vec!["10.0.0.1".parse().unwrap(), "127.0.0.1".parse().unwrap()],
            by_certificate: true,
            records: vec![HbaRecord {
                database: "image \"crawler\"".into(),
                user: "all".into(),
                address: "192.168.0.0/16".parse().unwrap(),
                method: crate::model::hba::HbaMethod::ScramSha256,
            }],
        };
        insta::assert_snapshot!("hba", access.render_hba().unwrap());
        insta::assert_snapshot!("ident", access.render_ident().unwrap());
        insta::assert_snapshot!(
            "hba_part",
            access.render_hba_part(&[roles::OPERATOR, roles::REWIND]).unwrap() + &access.records()
        );
        insta::assert_snapshot!("ident_part", access.render_ident_part().unwrap());

        let known = [("10.0.0.1", "a"), ("10.0.0.2", "b"), ("10.0.0.2", "c")];
        let known = known.map(|(ip, name)| (ip.parse().unwrap(), name.to_owned()));
        assert_eq!(admitted(&access.render_hba().unwrap(), &access.render_ident().unwrap()), known);
        let parts = (access.render_hba_part(&[]).unwrap(), access.render_ident_part().unwrap());
        assert_eq!(admitted(&parts.0, &parts.1), known);
    }
}
