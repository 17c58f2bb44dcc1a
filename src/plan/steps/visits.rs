//! What lets a role of an application work in a database of another.
//!
//! Rights are given on what the database's owner makes in schema public, and on nothing of anybody else. What is taken away is what
//! was provably given like this: the default privileges name the role.

use crate::model::argv::Argv;
use crate::model::observation::Instance;
use crate::model::role::ApplicationRole;
use crate::model::topology::Topology;
use crate::plan::seen::Seen;
use crate::plan::steps::sql;
use crate::quote::sql::Sql;

/// Says whether a database takes no connections: nobody can look, or work, in it.
pub(super) fn is_closed(instance: &Instance, database: &str) -> bool {
    instance.owners.contains_key(database) && !instance.databases.iter().any(|open| open == database)
}

/// Returns what takes the rights to write away that a role has from a database's owner, before that one owns it no more: afterwards
/// nobody would know who had given them. None where it has none, or keeps them.
pub(super) fn leave(
    topology: &Topology,
    name: &str,
    database: &str,
    writes: bool,
    primary: Seen<'_>,
) -> Option<(String, Argv)> {
    let instance = primary.instance?;
    let former = instance.owners.get(database).filter(|former| Some(former.as_str()) != owner(topology, database))?;
    let wrote = *instance.visitors.get(database)?.get(name)?;
    let sql = Sql::new().text("BEGIN;\n").then(write_no_more(name, former)).text("COMMIT;\n");
    let title = format!("let {name} write what {former} made in database {database} no more");
    (wrote && !writes).then(|| (title, sql::psql_in(primary.layout, primary.server, database, sql)))
}

/// Returns what lets a role work in a database; none where it may just what it is to.
///
/// The right to connect is given last, in the same transaction.
pub(super) fn visit(
    topology: &Topology,
    name: &str,
    database: &str,
    writes: bool,
    primary: Seen<'_>,
) -> Option<(String, Argv)> {
    let owner = owner(topology, database)?;
    // Whose a database of a stopped instance is nobody knows.
    if primary.instance.is_none() && primary.data.is_some()
        || primary.instance.is_some_and(|instance| is_closed(instance, database))
    {
        return None;
    }
    // Rights on what a former owner makes are of no use.
    let has_owner = |instance: &&Instance| instance.owners.get(database).is_some_and(|there| there == owner);
    let wrote = primary.instance.filter(has_owner).and_then(|instance| instance.visitors.get(database)?.get(name));
    if wrote == Some(&writes) {
        return None;
    }
    let mut sql = Sql::new().text("BEGIN;\n");
    if wrote == Some(&true) {
        sql = sql.then(write_no_more(name, owner));
    }
    let by_owner =
        |sql: Sql| sql.text("ALTER DEFAULT PRIVILEGES FOR ROLE ").identifier(owner).text(" IN SCHEMA public ");
    let to = |sql: Sql| sql.text(" TO ").identifier(name).text(";\n");
    let (tables, sequences) = match writes {
        true => ("GRANT SELECT, INSERT, UPDATE, DELETE ON ", "GRANT SELECT, USAGE ON "),
        false => ("GRANT SELECT ON ", "GRANT SELECT ON "),
    };
    sql = to(sql.text("GRANT USAGE ON SCHEMA public"));
    sql = to(by_owner(sql).text(tables).text("TABLES"));
    sql = to(by_owner(sql).text(sequences).text("SEQUENCES"));
    sql = on_each(sql, name, owner, [(tables, "TABLE", TABLES), (sequences, "SEQUENCE", SEQUENCES)]);
    sql = to(sql.text("GRANT CONNECT ON DATABASE ").identifier(database)).text("COMMIT;\n");
    let title = match (writes, wrote) {
        (true, None) => format!("let {name} read and write database {database}"),
        (true, Some(_)) => format!("let {name} write database {database}, too"),
        (false, Some(_)) => format!("let {name} read database {database}, and write it no more"),
        (false, None) => format!("let {name} read database {database}"),
    };
    Some((title, sql::psql_in(primary.layout, primary.server, database, sql)))
}

/// What `ALL TABLES` means (manual, GRANT), in `relkind`.
const TABLES: &str = "'r', 'p', 'v', 'm', 'f'";
const SEQUENCES: &str = "'S'";

/// Gives rights on each thing that is the owner's already. psql runs what the server has quoted.
fn on_each(sql: Sql, name: &str, owner: &str, rights: [(&'static str, &'static str, &'static str); 2]) -> Sql {
    rights.into_iter().fold(sql, |sql, (granted, kind, relkinds)| {
        let sql = sql.text("SELECT format('").text(granted).text(kind).text(" public.%I TO %I', relname, ");
        let sql =
            sql.literal(name).text(") FROM pg_class WHERE relnamespace = to_regnamespace('public') AND relkind IN (");
        let sql = sql.text(relkinds).text(") AND pg_get_userbyid(relowner) = ").literal(owner);
        sql.text("\n\\gexec\n")
    })
}

/// Takes the rights to write away that were given on what the owner makes, where its default privileges say so.
fn write_no_more(name: &str, owner: &str) -> Sql {
    let sql = Sql::new().text(
        "WITH given AS (SELECT DISTINCT defaclrole AS owner FROM pg_default_acl CROSS JOIN LATERAL aclexplode(defaclacl)
  WHERE defaclnamespace = to_regnamespace('public') AND defaclobjtype = 'r' AND privilege_type = 'INSERT'
    AND pg_get_userbyid(defaclrole) = ",
    );
    let sql = sql.literal(owner).text(" AND pg_get_userbyid(grantee) = ").literal(name).text(
        ")
SELECT format(CASE relkind WHEN 'S' THEN 'REVOKE USAGE ON SEQUENCE public.%I FROM %I'
    ELSE 'REVOKE INSERT, UPDATE, DELETE ON TABLE public.%I FROM %I' END, relname, ",
    );
    let sql = sql.literal(name).text(
        ")
  FROM pg_class JOIN given ON owner = relowner WHERE relnamespace = to_regnamespace('public') AND relkind IN (",
    );
    let sql = sql.text(TABLES).text(", ").text(SEQUENCES).text(
        ")
UNION ALL SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE INSERT, UPDATE, DELETE ON TABLES FROM %I',
    pg_get_userbyid(owner), ",
    );
    let sql = sql.literal(name).text(
        ") FROM given
UNION ALL SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE USAGE ON SEQUENCES FROM %I',
    pg_get_userbyid(owner), ",
    );
    sql.literal(name).text(") FROM given\n\\gexec\n")
}

/// Returns the role of the inventory that owns a database.
fn owner<'a>(topology: &'a Topology, database: &str) -> Option<&'a str> {
    let owns = |role: &ApplicationRole| role.owns.iter().any(|owned| owned == database);
    topology.common().roles.iter().find(|(_, role)| owns(role)).map(|(name, _)| name.as_str())
}
