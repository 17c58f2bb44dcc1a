//! The roles of applications: created and altered as the inventory says, with the databases that belong to them. A server
//! receives verifiers, never passwords, and nothing is dropped.

use std::collections::BTreeMap;

use crate::diagnostic::Code;
use crate::diagnostic::Diagnostic;
use crate::model::argv::Argv;
use crate::model::observation::Instance;
use crate::model::observation::Role;
use crate::model::role;
use crate::model::role::ApplicationRole;
use crate::model::role::PasswordSource;
use crate::model::topology::Topology;
use crate::pki::RolePassword;
use crate::plan::material::Material;
use crate::plan::seen::Seen;
use crate::plan::step::Risk;
use crate::plan::step::Step;
use crate::plan::steps::sql;
use crate::quote;
use crate::quote::sql::Sql;

/// Any number of connections.
const NO_LIMIT: i32 = -1;

/// Says which roles are there and not to be touched.
pub fn refusals(topology: &Topology, primary: Seen<'_>) -> Vec<Diagnostic> {
    let roles = topology.common().roles.keys();
    let there = roles.filter_map(|name| Some((name, primary.instance?.roles.get(name)?)));
    let powerful = there.filter(|(_, there)| there.superuser || there.replication);
    let told = powerful.map(|(name, there)| {
        let what = if there.superuser { "is a superuser" } else { "may replicate" };
        let attribute = if there.superuser { "NOSUPERUSER" } else { "NOREPLICATION" };
        Diagnostic::error(Code::RoleUnsuitable, format!("role \"{name}\" exists and {what}"))
            .server(&primary.server.name)
            .detail("An application could then do anything on every server, or read all of its data.")
            .hint(format!(
                "ALTER ROLE {} {attribute}; or give the application a role of another name.",
                quote::sql::identifier(name)
            ))
    });
    told.collect()
}

/// Says what is left as it is, and what nobody could ask.
pub fn notes(topology: &Topology, material: &Material, primary: Seen<'_>) -> Vec<Diagnostic> {
    let roles = &topology.common().roles;
    if let Some(instance) = primary.instance {
        return stale(roles, material, instance).map(|note| note.server(&primary.server.name)).collect();
    }
    if roles.is_empty() || primary.data.is_none() {
        return Vec::new();
    }
    let note = Diagnostic::note(
        Code::RolesUnasked,
        "which roles there are could not be asked, since the primary does not run",
    )
    .server(&primary.server.name)
    .detail("Those that are missing are created. Passwords of those that exist stay as they are.")
    .hint("Run pgstead bootstrap once more when it runs.");
    vec![note]
}

/// Says whose password that was made is not the one that is kept here.
fn stale<'a>(
    roles: &'a BTreeMap<String, ApplicationRole>,
    material: &'a Material,
    instance: &'a Instance,
) -> impl Iterator<Item = Diagnostic> {
    let stale = roles.iter().filter(|(name, wanted)| {
        let kept = material.passwords.get(*name);
        kept.is_some_and(|kept| is_anothers(wanted, instance.roles.get(*name), kept))
    });
    stale.map(|(name, _)| {
        let message = format!("the password of role \"{name}\" is another than the one kept here");
        Diagnostic::note(Code::PasswordSource, message)
            .detail("Somebody has changed it, or made it from another machine. It stays: applications use it.")
            .hint(format!(
                "Take the file out of the state directory. Where it is the right one: ALTER ROLE {} PASSWORD NULL, then pgstead bootstrap.",
                quote::sql::identifier(name)
            ))
    })
}

/// Returns a step for each role that is missing or differs, in an order in which each can be made.
pub fn steps(topology: &Topology, material: &Material, primary: Seen<'_>) -> Vec<Step> {
    let roles = &topology.common().roles;
    let ordered = role::in_order(roles).unwrap_or_default();
    let changes = ordered.into_iter().filter_map(|name| {
        let (title, sql) = change(name, roles.get(name)?, primary, material.passwords.get(name))?;
        let commands = vec![sql::psql(primary.layout, primary.server, sql)];
        Some(Step::run(&primary.server.name, Risk::Reversible, title, commands))
    });
    // Each in a step of its own: of a step's commands one alone has standard input.
    let visits =
        roles.iter().flat_map(|(name, role)| role.visits().map(move |(database, writes)| (name, database, writes)));
    let visits = visits.filter_map(|(name, database, writes)| {
        let (title, command) = visit(topology, name, database, writes, primary)?;
        Some(Step::run(&primary.server.name, Risk::Reversible, title, vec![command]))
    });
    changes.chain(visits).collect()
}

/// Returns what lets a role work in a database of another; none where it may just that.
///
/// What is given stands in the database itself, where nobody looks. The right to connect is given last, in the same transaction, and
/// with it the right to make temporary tables to whoever writes: these are seen from everywhere.
fn visit(topology: &Topology, name: &str, database: &str, writes: bool, primary: Seen<'_>) -> Option<(String, Argv)> {
    let (owner, _) =
        topology.common().roles.iter().find(|(_, role)| role.owns.iter().any(|owned| owned == database))?;
    let instance = primary.instance;
    // Rights on what a former owner makes are of no use.
    let has_owner = |instance: &&Instance| instance.owners.get(database) == Some(owner);
    let wrote = instance.filter(has_owner).and_then(|instance| instance.visitors.get(database)?.get(name).copied());
    if wrote == Some(writes) {
        return None;
    }
    let to = |sql: Sql| sql.text(" TO ").identifier(name).text(";\n");
    let from = |sql: Sql| sql.text(" FROM ").identifier(name).text(";\n");
    let by_owner =
        |sql: Sql| sql.text("ALTER DEFAULT PRIVILEGES FOR ROLE ").identifier(owner).text(" IN SCHEMA public ");
    let mut sql = Sql::new().text("BEGIN;\n");
    if !writes && wrote == Some(true) {
        sql = from(sql.text("REVOKE INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"));
        sql = from(sql.text("REVOKE USAGE ON ALL SEQUENCES IN SCHEMA public"));
        sql = from(by_owner(sql).text("REVOKE INSERT, UPDATE, DELETE ON TABLES"));
        sql = from(by_owner(sql).text("REVOKE USAGE ON SEQUENCES"));
        sql = from(sql.text("REVOKE TEMPORARY ON DATABASE ").identifier(database));
    }
    let (tables, sequences, connects) = match writes {
        true => (
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ",
            "GRANT SELECT, USAGE ON ",
            "GRANT CONNECT, TEMPORARY ON DATABASE ",
        ),
        false => ("GRANT SELECT ON ", "GRANT SELECT ON ", "GRANT CONNECT ON DATABASE "),
    };
    sql = to(sql.text("GRANT USAGE ON SCHEMA public"));
    sql = to(sql.text(tables).text("ALL TABLES IN SCHEMA public"));
    sql = to(sql.text(sequences).text("ALL SEQUENCES IN SCHEMA public"));
    sql = to(by_owner(sql).text(tables).text("TABLES"));
    sql = to(by_owner(sql).text(sequences).text("SEQUENCES"));
    sql = to(sql.text(connects).identifier(database)).text("COMMIT;\n");
    let title = match (writes, wrote) {
        (true, None) => format!("let {name} read and write database {database}"),
        (true, Some(_)) => format!("let {name} write database {database}, too"),
        (false, Some(_)) => format!("let {name} read database {database}, and write it no more"),
        (false, None) => format!("let {name} read database {database}"),
    };
    Some((title, sql::psql_in(primary.layout, primary.server, database, sql)))
}

/// Says whether a database belongs to one of the roles, and is made with it.
pub fn is_owned(topology: &Topology, database: &str) -> bool {
    topology.common().roles.values().any(|role| role.owns.iter().any(|owned| owned == database))
}

/// Returns what is done about one role; none where it is as it should be.
fn change(
    name: &str,
    wanted: &ApplicationRole,
    primary: Seen<'_>,
    password: Option<&RolePassword>,
) -> Option<(String, Sql)> {
    // What a stopped instance has, nobody could ask: it is seen to when it runs, by statements that change nothing twice.
    let is_unknown = primary.instance.is_none() && primary.data.is_some();
    let verb = if is_unknown { "make sure of" } else { "create" };
    let there = primary.instance.and_then(|instance| instance.roles.get(name));
    let password = password.filter(|password| !has(there, password) && !is_anothers(wanted, there, password));
    let mut titles: Vec<String> = Vec::new();
    let mut sql = Sql::new().text("BEGIN;\n");
    if there.is_none() {
        let with = if password.is_some() { ", with a password" } else { "" };
        titles.push(format!("{verb} role {name}{with}"));
        sql = unless_there(sql, "pg_roles WHERE rolname = ", name).text("CREATE ROLE ").identifier(name).text(";\n");
        if let Some(password) = password {
            sql = sql.then(sql::password(name, &password.verifier));
        }
        sql = sql.text("\\endif\n");
    }
    let attributes = attributes(wanted, there);
    if !attributes.is_empty() {
        sql = sql.text("ALTER ROLE ").identifier(name);
        for (_, attribute) in &attributes {
            sql = sql.text(" ").then(attribute.clone());
        }
        sql = sql.text(";\n");
    }
    let mut altered: Vec<String> = attributes.into_iter().filter_map(|(told, _)| told).collect();
    let missing = |group: &&String| !there.is_some_and(|there| there.member_of.contains(group));
    let groups: Vec<&str> = wanted.member_of.iter().filter(missing).map(String::as_str).collect();
    for group in &groups {
        sql = sql.text("GRANT ").identifier(group).text(" TO ").identifier(name).text(";\n");
    }
    if let (Some(password), Some(there)) = (password, there) {
        altered.push(if there.verifier_sha256.is_some() { "another password" } else { "a password" }.to_owned());
        sql = sql.then(sql::password(name, &password.verifier));
    }
    if !altered.is_empty() {
        titles.push(format!("alter role {name}: {}", altered.join(", ")));
    }
    if !groups.is_empty() {
        titles.push(format!("grant {} to {name}", groups.join(", ")));
    }
    sql = sql.text("COMMIT;\n");
    for database in &wanted.owns {
        if let Some((title, statement)) = owned(name, database, verb, primary.instance) {
            titles.push(title);
            sql = sql.then(statement);
        }
    }
    (!titles.is_empty()).then(|| (titles.join("; "), sql))
}

/// Says whether a role has this very password.
fn has(there: Option<&Role>, password: &RolePassword) -> bool {
    let has = |there: &Role| Some(password.has_verifier(there.salted.as_deref()?, there.verifier_sha256.as_deref()?));
    there.and_then(has).unwrap_or_default()
}

/// Says whether a role whose password pgstead is to make has one that is not the one kept here. It was made on another machine, or
/// by somebody since, and applications use it: what is kept here is the stale one.
fn is_anothers(wanted: &ApplicationRole, there: Option<&Role>, password: &RolePassword) -> bool {
    let is_generated = wanted.password == Some(PasswordSource::Generated);
    is_generated && there.is_some_and(|there| there.verifier_sha256.is_some()) && !has(there, password)
}

/// Returns the attributes that differ, each with what is told of it: of a new role nothing, since it had none before.
fn attributes(wanted: &ApplicationRole, there: Option<&Role>) -> Vec<(Option<String>, Sql)> {
    let mut all = Vec::new();
    if there.is_none_or(|there| there.login != wanted.login) {
        let word = |login| if login { "yes" } else { "no" };
        let told = there.map(|there| format!("login from {} to {}", word(there.login), word(wanted.login)));
        all.push((told, Sql::new().text(if wanted.login { "LOGIN" } else { "NOLOGIN" })));
    }
    let has = there.map_or(NO_LIMIT, |there| there.connection_limit.unwrap_or(NO_LIMIT));
    if let Some(limit) = wanted.connection_limit.filter(|limit| *limit != has) {
        let word = |limit: i32| if limit == NO_LIMIT { "none".to_owned() } else { limit.to_string() };
        let told = there.map(|_| format!("connection limit from {} to {}", word(has), word(limit)));
        all.push((told, Sql::new().text("CONNECTION LIMIT ").number(limit.into())));
    }
    all
}

/// Returns what makes a database belong to a role; none where it does.
fn owned(name: &str, database: &str, verb: &str, instance: Option<&Instance>) -> Option<(String, Sql)> {
    let owner = instance.and_then(|instance| instance.owners.get(database));
    let give =
        |sql: Sql| sql.text("ALTER DATABASE ").identifier(database).text(" OWNER TO ").identifier(name).text(";\n");
    match owner {
        Some(owner) if owner == name => None,
        Some(owner) => {
            Some((format!("change the owner of database {database} from {owner} to {name}"), give(Sql::new())))
        }
        None => {
            let sql = unless_there(Sql::new(), "pg_database WHERE datname = ", database);
            let sql = sql.text("CREATE DATABASE ").identifier(database).text(" OWNER ").identifier(name);
            let sql = give(sql.text(";\n\\else\n")).text("\\endif\n");
            Some((format!("{verb} database {database}, owned by {name}"), sql))
        }
    }
}

/// Begins what is done only where something is not there yet.
fn unless_there(sql: Sql, of: &'static str, name: &str) -> Sql {
    let sql = sql.text("SELECT NOT EXISTS (SELECT FROM ").text(of).literal(name);
    sql.text(") AS is_missing \\gset\n\\if :is_missing\n")
}
