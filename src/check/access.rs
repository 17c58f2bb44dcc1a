//! Judges who is let in from the network without any proof of who it is.
//!
//! Records that can't be read are judged with the configuration in `servers`.

use crate::check::Finding;
use crate::diagnostic::{Code, Diagnostic};
use crate::model::health::Trusted;
use crate::model::name::ServerName;
use crate::model::observation::{Instance, Role};

/// Roles of a primary that an earlier version of pgstead made, and that lack what this one relies on. A standby has them of it.
pub(super) fn check_roles(name: &ServerName, primary: &Instance) -> Option<Finding> {
    let lacks = |(role, row): (&String, &Role)| (row.complete == Some(false)).then(|| role.clone());
    let roles: Vec<String> = primary.roles.iter().filter_map(lacks).collect();
    (!roles.is_empty()).then(|| {
        Finding::remark(
            Diagnostic::warning(
                Code::RoleOutdated,
                format!("server \"{name}\": role {} lacks what this version of pgstead gives it", roles.join(", ")),
            )
            .server(name)
            .detail("Another version made it, or somebody revoked that since.")
            .hint("pgstead bootstrap grants it. It restarts nothing for that."),
        )
    })
}

/// Whoever connects may say who it is: for replication that is a copy of everything, for all databases everything.
pub(super) fn check_access(name: &ServerName, instance: &Instance) -> Option<Finding> {
    let trusted = &instance.health.trusted;
    let first = trusted.first()?;
    let words = |record: &Trusted| {
        let Trusted { line, database, user, address } = record;
        format!("line {line}: database {database}, user {user}, address {address}")
    };
    let records: Vec<String> = trusted.iter().map(words).collect();
    let file = instance.settings.get("hba_file").map_or("pg_hba.conf", |setting| setting.setting.as_str());
    Some(Finding::unhealthy(
        Diagnostic::error(
            Code::TrustedFromNetwork,
            format!("server \"{name}\": {file} line {} lets anybody in from the network", first.line),
        )
        .server(name)
        .detail(format!("Its method is trust; {}.", records.join("; ")))
        .hint("Let them prove who they are: scram-sha-256 or cert in place of trust, then reload."),
    ))
}
