//! The roles of applications: created and altered as the inventory says, with the databases that belong to them. A server
//! receives verifiers, never passwords, and nothing is dropped.

use std::collections::BTreeMap;

use crate::diagnostic::{Code, Diagnostic};
use crate::model::argv::Argv;
use crate::model::observation::{Instance, Role};
use crate::model::role;
use crate::model::role::{ApplicationRole, PasswordSource};
use crate::model::topology::Topology;
use crate::pki::RolePassword;
use crate::plan::material::Material;
use crate::plan::seen::Seen;
use crate::plan::step::{Risk, Step};
use crate::plan::steps::{sql, visits};
use crate::quote;
use crate::quote::sql::Sql;

/// Any number of connections.
const NO_LIMIT: i32 = -1;

/// Says which roles are there and not to be touched, and which memberships the server would refuse.
pub fn refusals(topology: &Topology, primary: Seen<'_>) -> Vec<Diagnostic> {
    let roles = &topology.common().roles;
    let Some(instance) = primary.instance else { return Vec::new() };
    let there = roles.keys().filter_map(|name| Some((name, instance.roles.get(name)?)));
    let powerful = there.filter_map(|(name, there)| unsuitable(name, there));
    let turned = roles.iter().flat_map(|(name, role)| role.member_of.iter().map(move |group| (name, group)));
    let turned = turned.filter(|(name, group)| is_member(instance, group, name, &mut Vec::new()));
    let turned = turned.map(|(name, group)| {
        let message = format!("role \"{name}\" cannot become a member of \"{group}\", which is a member of it");
        Diagnostic::error(Code::RoleCycle, message)
            .detail("pgstead takes no membership away.")
            .hint("Revoke it on the server, or take \"member_of\" out.")
    });
    powerful.chain(turned).map(|refusal| refusal.server(&primary.server.name)).collect()
}

/// Says whether a role is a member of another, directly or by others.
fn is_member<'a>(instance: &'a Instance, role: &'a str, of: &str, passed: &mut Vec<&'a str>) -> bool {
    passed.push(role);
    let groups = instance.roles.get(role).map(|role| role.member_of.as_slice()).unwrap_or_default();
    groups
        .iter()
        .any(|group| group == of || (!passed.contains(&group.as_str()) && is_member(instance, group, of, passed)))
}

/// Says why an existing role may do more than an application is to.
fn unsuitable(name: &str, there: &Role) -> Option<Diagnostic> {
    let has = [
        (there.superuser, "is a superuser", "NOSUPERUSER"),
        (there.replication, "may replicate", "NOREPLICATION"),
        (there.createrole, "may create roles", "NOCREATEROLE"),
    ];
    let role = quote::sql::identifier(name);
    let (what, remedy) = match has.into_iter().find(|(has, ..)| *has) {
        Some((_, what, attribute)) => (what.to_owned(), format!("ALTER ROLE {role} {attribute}")),
        None => {
            let group = there.powers.first()?;
            // It may be a member by way of others.
            let remedy =
                format!("Take its membership away, as by REVOKE {} FROM {role}", quote::sql::identifier(group));
            (format!("has the rights of \"{group}\""), remedy)
        }
    };
    let refusal = Diagnostic::error(Code::RoleUnsuitable, format!("role \"{name}\" exists and {what}"))
        .detail("An application could then do anything on every server, or read all of its data.")
        .hint(format!("{remedy}; or give the application a role of another name."));
    Some(refusal)
}

/// Says what is left as it is, and what nobody could ask.
pub fn notes(topology: &Topology, material: &Material, primary: Seen<'_>) -> Vec<Diagnostic> {
    let roles = &topology.common().roles;
    if let Some(instance) = primary.instance {
        let notes = stale(roles, material, instance);
        let notes = notes.chain(stays_with_owner(roles, instance)).chain(closed(roles, instance));
        return notes.map(|note| note.server(&primary.server.name)).collect();
    }
    if roles.is_empty() || primary.data.is_none() {
        return Vec::new();
    }
    let note = Diagnostic::note(
        Code::RolesUnasked,
        "which roles there are could not be asked, since the primary does not run",
    )
    .server(&primary.server.name)
    .detail("Those that are missing are created. What exists stays as it is: passwords, rights and owners.")
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
                "Take the file out of the state directory. Where nobody knows the one in use, this makes another: pgstead rotate passwords {}",
                quote::sh::quote(name)
            ))
    })
}

/// Says what a database's new owner does not get with it.
fn stays_with_owner<'a>(
    roles: &'a BTreeMap<String, ApplicationRole>,
    instance: &'a Instance,
) -> impl Iterator<Item = Diagnostic> {
    let owned = roles.iter().flat_map(|(name, role)| role.owns.iter().map(move |database| (name, database)));
    owned.filter_map(|(name, database)| {
        let former = instance.owners.get(database).filter(|former| *former != name)?;
        let message = format!("tables in database {database} stay with their owners when it changes from {former} to {name}");
        let warning = Diagnostic::warning(Code::DatabaseOwner, message)
            .detail("Schema public does, too, where the database was made before PostgreSQL 15.")
            .hint("Where they are to be the new owner's: ALTER TABLE … OWNER TO, ALTER SCHEMA … OWNER TO; or REASSIGN OWNED, in that database, where the former owner gives everything away.");
        Some(warning)
    })
}

/// Says in which databases nobody can be given anything.
fn closed<'a>(
    roles: &'a BTreeMap<String, ApplicationRole>,
    instance: &'a Instance,
) -> impl Iterator<Item = Diagnostic> {
    let visits = roles.iter().flat_map(|(name, role)| role.visits().map(move |(database, _)| (name, database)));
    visits.filter(|(_, database)| visits::is_closed(instance, database)).map(|(name, database)| {
        Diagnostic::warning(Code::DatabaseClosed, format!("database {database} takes no connections"))
            .detail(format!("What role \"{name}\" may do there stays as it is."))
            .hint(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", quote::sql::identifier(database)))
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
    let visits: Vec<_> = roles.iter().flat_map(|(name, role)| role.visits().map(move |visit| (name, visit))).collect();
    let step =
        |(title, command): (String, Argv)| Step::run(&primary.server.name, Risk::Reversible, title, vec![command]);
    let left = visits
        .iter()
        .filter_map(|(name, (database, writes))| visits::leave(topology, name, database, *writes, primary).map(step));
    let begun = visits
        .iter()
        .filter_map(|(name, (database, writes))| visits::visit(topology, name, database, *writes, primary).map(step));
    left.chain(changes).chain(begun).collect()
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
    // What a stopped instance has, nobody could ask: what is missing is created, and what is there is not touched until it was
    // looked at. It may be somebody else's, or have more rights than an application gets.
    let is_unknown = primary.instance.is_none() && primary.data.is_some();
    let verb = if is_unknown { "make sure of" } else { "create" };
    let there = primary.instance.and_then(|instance| instance.roles.get(name));
    let password = password.filter(|password| !has(there, password) && !is_anothers(wanted, there, password));
    let mut titles: Vec<String> = Vec::new();
    let mut sql = Sql::new().text("BEGIN;\n");
    if there.is_none() {
        let with = if password.is_some() { ", with a password" } else { "" };
        titles.push(format!("{verb} role {name}{with}"));
        sql = unless_there(sql, "pg_roles WHERE rolname = ", name).text("CREATE ROLE ").identifier(name);
        sql = attributes(wanted, None).into_iter().fold(sql, |sql, (_, attribute)| sql.text(" ").then(attribute));
        sql = sql.text(";\n");
        if let Some(password) = password {
            sql = sql.then(sql::password(name, &password.verifier));
        }
        sql = sql.text("\\endif\n");
    }
    let attributes = there.map(|there| attributes(wanted, Some(there))).unwrap_or_default();
    if !attributes.is_empty() {
        sql = sql.text("ALTER ROLE ").identifier(name);
        for (_, attribute) in &attributes {
            sql = sql.text(" ").then(attribute.clone());
        }
        sql = sql.text(";\n");
    }
    let mut altered: Vec<String> = attributes.into_iter().filter_map(|(told, _)| told).collect();
    let missing = |group: &&String| !is_unknown && !there.is_some_and(|there| there.member_of.contains(group));
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
    match owner {
        Some(owner) if owner == name => None,
        Some(owner) => {
            let sql = Sql::new().text("ALTER DATABASE ").identifier(database).text(" OWNER TO ").identifier(name);
            Some((format!("change the owner of database {database} from {owner} to {name}"), sql.text(";\n")))
        }
        None => {
            let sql = unless_there(Sql::new(), "pg_database WHERE datname = ", database);
            let sql = sql.text("CREATE DATABASE ").identifier(database).text(" OWNER ").identifier(name);
            let sql = sql.text(";\n\\endif\n");
            Some((format!("{verb} database {database}, owned by {name}"), sql))
        }
    }
}

/// Begins what is done only where something is not there yet.
fn unless_there(sql: Sql, of: &'static str, name: &str) -> Sql {
    let sql = sql.text("SELECT NOT EXISTS (SELECT FROM ").text(of).literal(name);
    sql.text(") AS is_missing \\gset\n\\if :is_missing\n")
}
