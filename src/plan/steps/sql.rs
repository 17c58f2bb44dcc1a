//! The SQL of a bootstrap: roles, the canary table, databases, slots, reload. It runs as the instance's OS user over the
//! local socket, text on standard input, secrets as verifiers only (hazard 84).

use std::collections::BTreeSet;

use crate::model::argv::{Argv, RunAs};
use crate::model::layout::Layout;
use crate::model::name::ServerName;
use crate::model::secret::Secret;
use crate::model::topology::Server;
use crate::plan::files::kept;
use crate::quote::conninfo;
use crate::quote::sql::Sql;
use crate::render::hba::roles;

/// Returns the `psql` command that runs a text as superuser over the local socket.
pub fn psql(layout: &Layout, server: &Server, text: Sql) -> Argv {
    psql_in(layout, server, "postgres", text)
}

/// The same in another database.
pub fn psql_in(layout: &Layout, server: &Server, database: &str, text: Sql) -> Argv {
    // A name with "=" in it would be read as a connection string.
    let database = if database.contains('=') || database.contains("://") {
        conninfo::join([("dbname", database)])
    } else {
        database.to_owned()
    };
    let mut argv = Argv::new(RunAs::User(layout.os_user.clone()), layout.program("psql"))
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", &layout.socket_directory, "-p", &server.port.to_string()])
        .args(["-U", roles::SUPERUSER, "-d", &database, "-f", "-"])
        .in_session();
    argv.stdin = text.into_pieces();
    argv
}

/// What is missing on the primary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Missing {
    /// Roles to create.
    pub roles: Vec<&'static str>,
    /// Roles that are there and lack what this version gives them.
    pub grants: Vec<&'static str>,
    /// The verifier that the replication role must have, where it has another or none.
    pub verifier: Option<Secret>,
    /// Whether the canary table is missing.
    pub canary: bool,
    /// Whether the canary table is there, and its rows do not form a chain yet.
    pub canary_chain: bool,
    /// Databases to create.
    pub databases: Vec<String>,
    /// Whether roles say in a comment that pgstead made them, where others exist beside them.
    pub comments: bool,
}

/// Makes every canary name the one before it (L11). The server computes the hash, so that nobody can write another.
///
/// Each row has a page of its own, which the filler and the fill factor see to: what a standby missed of a page that
/// others share would come back to it with the next full-page image, and with it the row that should be missing.
const CANARY_CHAIN: &str = "ALTER TABLE pgstead.canary SET (fillfactor = 10);
ALTER TABLE pgstead.canary ADD COLUMN IF NOT EXISTS prev_hash text NOT NULL DEFAULT '',
  ADD COLUMN IF NOT EXISTS hash text NOT NULL GENERATED ALWAYS AS
    (encode(sha256(decode(prev_hash, 'hex') || int8send(seq) || decode(nonce, 'hex')), 'hex')) STORED,
  ADD COLUMN IF NOT EXISTS filler text NOT NULL DEFAULT repeat('-', 400);
";

impl Missing {
    /// Says whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        *self == Missing { comments: self.comments, ..Missing::default() }
    }

    /// Returns the SQL that creates what is missing. Roles and tables come into being together or not at all. What is
    /// there already stays as it is: of an instance that was stopped nobody knows what it has.
    pub fn sql(&self) -> Sql {
        let mut sql = Sql::new().text("BEGIN;\n");
        for role in &self.roles {
            sql = sql.text("DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ").literal(role);
            sql = sql.text(") THEN CREATE ROLE ").identifier(role).text(" LOGIN");
            if *role == roles::REPLICATOR {
                sql = sql.text(" REPLICATION");
            }
            if self.comments {
                sql = sql.text("; COMMENT ON ROLE ").identifier(role).text(" IS ").literal(kept::ROLE_COMMENT);
            }
            sql = sql.text("; END IF; END $do$;\n").then(grants(role));
        }
        sql = self.grants.iter().fold(sql, |sql, role| sql.then(grants(role)));
        if let Some(verifier) = &self.verifier {
            sql = sql.then(password(roles::REPLICATOR, verifier));
        }
        if self.canary {
            sql = sql
                .text("CREATE SCHEMA IF NOT EXISTS pgstead;\n")
                .text("CREATE TABLE IF NOT EXISTS pgstead.canary (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, nonce text NOT NULL,\n")
                .text("  written_at timestamptz NOT NULL DEFAULT clock_timestamp());\n");
        }
        let concerns_operator = |all: &[&str]| all.contains(&roles::OPERATOR);
        if self.canary || concerns_operator(&self.roles) || concerns_operator(&self.grants) {
            let to = |sql: Sql| sql.identifier(roles::OPERATOR).text(";\n");
            sql = to(sql.text("GRANT USAGE ON SCHEMA pgstead TO "));
            sql = to(sql.text("GRANT SELECT, INSERT, DELETE ON pgstead.canary TO "));
        }
        if self.canary || self.canary_chain {
            sql = sql.text(CANARY_CHAIN);
        }
        sql = sql.text("COMMIT;\n");
        for database in &self.databases {
            // No DO block can do this; psql runs what the server has quoted.
            sql = sql.text("SELECT format('CREATE DATABASE %I', ").literal(database);
            sql = sql.text(") WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = ").literal(database);
            sql = sql.text(")\n\\gexec\n");
        }
        sql
    }
}

/// Returns the SQL that gives a role a password, inside a transaction.
pub(in crate::plan) fn password(role: &str, verifier: &Secret) -> Sql {
    // pg_stat_activity shows no text of a session that tracks none.
    let sql = Sql::new().text("SET LOCAL track_activities = off;\nALTER ROLE ").identifier(role);
    sql.text(" PASSWORD ").secret(verifier).text(";\n")
}

/// The four functions that pg_rewind needs (manual, pg_rewind, "Notes"; hazard 75).
const REWIND_RIGHTS: &str = "EXECUTE ON FUNCTION pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean),
  pg_read_binary_file(text), pg_read_binary_file(text, bigint, bigint, boolean)";

/// Returns the SQL that takes away what nobody but pgstead needs: the canary table with its schema, and these roles. All of it or
/// nothing: where somebody else's objects depend on one, the server names them, and everything stays. Role replicator stays, and says
/// who made it where nothing did (`signed`): by that a later adoption knows it, and its password.
pub fn take_away(has_canary: bool, gone: &[&str], signed: bool) -> Sql {
    let mut sql = Sql::new().text("BEGIN;\nSET LOCAL lock_timeout = '10s';\n");
    if has_canary {
        sql = sql.text("DROP TABLE pgstead.canary;\nDROP SCHEMA pgstead;\n");
    }
    for role in gone {
        if *role == roles::REWIND {
            sql = sql.text("REVOKE ").text(REWIND_RIGHTS).text(" FROM ").identifier(role).text(";\n");
        }
        sql = sql.text("DROP ROLE ").identifier(role).text(";\n");
    }
    if signed {
        sql = sql
            .text("COMMENT ON ROLE ")
            .identifier(roles::REPLICATOR)
            .text(" IS ")
            .literal(kept::ROLE_COMMENT)
            .text(";\n");
    }
    sql.text("COMMIT;\n")
}

fn grants(role: &str) -> Sql {
    let to = |sql: Sql| sql.identifier(role).text(";\n");
    match role {
        roles::OPERATOR => {
            let sql = to(Sql::new().text("GRANT pg_monitor, pg_checkpoint TO "));
            // A trigger at every login that writes would keep it out of a standby. Only a superuser can say so, here.
            sql.text("DO $do$ BEGIN IF current_setting('server_version_num')::int >= 170000 THEN ALTER ROLE ")
                .identifier(role)
                .text(" SET event_triggers = off; END IF; END $do$;\n")
        }
        roles::REWIND => to(Sql::new().text("GRANT ").text(REWIND_RIGHTS).text(" TO ")),
        _ => Sql::new(),
    }
}

/// Returns the SQL that makes slots reserve WAL from now on. A lost slot of ours is replaced; an active one is left alone.
pub fn create_slots(slots: &[String]) -> Sql {
    slots.iter().fold(Sql::new(), |sql, slot| {
        sql.text("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND wal_status = 'lost' AND slot_name = ")
            .literal(slot)
            .text(";\nSELECT pg_create_physical_replication_slot(")
            .literal(slot)
            .text(", true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = ")
            .literal(slot)
            .text(");\n")
    })
}

/// Returns the SQL that writes a checkpoint now.
pub fn checkpoint() -> Sql {
    Sql::new().text("CHECKPOINT;\n")
}

/// Returns the SQL that ends a pause of replay.
pub fn resume_replay() -> Sql {
    Sql::new().text("SELECT pg_wal_replay_resume();\n")
}

/// Returns the SQL that ends the connections of an interrupted base backup, which stay until TCP gives a dead server up
/// (hazard 17): those of a standby's name, from addresses that are known to be that server's.
pub fn end_senders(standby: &ServerName, addresses: &BTreeSet<&str>) -> Sql {
    let all = addresses
        .iter()
        .enumerate()
        .fold(Sql::new(), |sql, (index, address)| sql.text(if index == 0 { "" } else { ", " }).literal(address));
    // The rows are chosen before one is ended: among conditions of one query the server chooses the order.
    Sql::new()
        .text(
            "DO $do$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT pid, client_addr FROM pg_stat_replication WHERE application_name = ",
        )
        .literal(standby.as_str())
        .text(" AND host(client_addr) IN (")
        .then(all)
        .text(
            ")
  LOOP
    IF NOT pg_terminate_backend(one.pid, 10000) THEN
      RAISE EXCEPTION 'walsender % of an interrupted base backup, for %, does not end', one.pid, one.client_addr;
    END IF;
  END LOOP;
END
$do$;
",
        )
}

/// Returns the SQL that ends whatever streams through a standby's slot, drops the slot, and lets go of the WAL that it held,
/// which happens at a checkpoint. A logical slot of that name, and who receives under that name with another role, are somebody else's.
pub fn drop_slot(standby: &ServerName) -> Sql {
    let slot = standby.slot_name();
    Sql::new()
        .text("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_replication WHERE application_name = ")
        .literal(standby.as_str())
        .text(" AND usename = ")
        .literal(roles::REPLICATOR)
        .text(";\nSELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_type = 'physical' AND active_pid IS NOT NULL AND slot_name = ")
        .literal(&slot)
        .text(";\nSELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND slot_name = ")
        .literal(&slot)
        .text(";\nCHECKPOINT;\n")
}

/// Returns the SQL that drops the slot of a standby unless somebody streams through it, and lets go of the WAL that it held.
pub fn drop_idle_slot(standby: &ServerName) -> Sql {
    Sql::new()
        .text("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT active AND slot_name = ")
        .literal(&standby.slot_name())
        .text(";\nCHECKPOINT;\n")
}

/// Returns the SQL that drops a slot that nobody uses any more, when whoever did has gone. One that is in use by then is somebody
/// else's, and stays.
pub fn drop_former_slot(slot: &str) -> Sql {
    let is_in_use = |sql: Sql| {
        sql.text("EXISTS (SELECT FROM pg_replication_slots WHERE active AND slot_name = ").literal(slot).text(")")
    };
    let sql = Sql::new().text("DO $do$\nBEGIN\n  FOR i IN 1..100 LOOP\n    EXIT WHEN NOT ");
    let sql = is_in_use(sql).text(";\n    PERFORM pg_sleep(0.1);\n  END LOOP;\n  IF ");
    let sql = is_in_use(sql).text(
        " THEN\n    RAISE EXCEPTION 'the slot is in use again, by somebody else, and stays';\n  END IF;\nEND\n$do$;\n",
    );
    sql.text("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active AND slot_name = ")
        .literal(slot)
        .text(";\nCHECKPOINT;\n")
}

/// Returns the SQL that takes back what `ALTER SYSTEM` has set.
pub fn reset<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Sql {
    let reset = |sql: Sql, name: &str| sql.text("ALTER SYSTEM RESET ").identifier(name).text(";\n");
    parameters.into_iter().fold(Sql::new(), reset)
}

/// Returns the SQL that waits until a standby that was streaming does so over another connection, or not at all: that one shows
/// this certificate and uses this slot. Why it does not stream the proof of the link says.
pub fn await_connection(certificate: &str, slot: &str) -> Sql {
    Sql::new()
        .text(
            "DO $do$
DECLARE
  former text;
BEGIN
  FOR i IN 1..300 LOOP
    SELECT format('slot %s of %s:%s', slot_name, sender_host, sender_port) INTO former FROM pg_stat_wal_receiver
      WHERE status = 'streaming' AND NOT (position(",
        )
        .literal(certificate)
        .text(" IN conninfo) > 0 AND slot_name = ")
        .literal(slot)
        .text(
            ");
    EXIT WHEN former IS NULL;
    PERFORM pg_sleep(0.1);
  END LOOP;
  IF former IS NOT NULL THEN
    RAISE EXCEPTION 'it goes on streaming as before, from %', former;
  END IF;
END
$do$;
",
        )
}

/// Returns the SQL that reloads the configuration after the server itself found no error in its files (hazard 40).
///
/// That records for TLS match nothing while it is off is none: this reload turns it on, before the records are read.
pub fn reload() -> Sql {
    Sql::new().text(
        "SET lc_messages = 'C';
DO $do$
DECLARE
  problem text;
BEGIN
  SELECT string_agg(error, '; ') INTO problem FROM (
    SELECT format('%s line %s: %s: %s', f.sourcefile, f.sourceline, f.name, f.error) AS error FROM pg_file_settings f
      WHERE f.error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = f.name AND s.context = 'postmaster')
    UNION ALL SELECT format('pg_hba.conf line %s: %s', line_number, error) FROM pg_hba_file_rules WHERE error IS NOT NULL
      AND NOT (current_setting('ssl') = 'off' AND error = 'hostssl record cannot match because SSL is disabled')
    UNION ALL SELECT format('pg_ident.conf line %s: %s', line_number, error) FROM pg_ident_file_mappings WHERE error IS NOT NULL
  ) e;
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION 'the configuration files have errors and were not loaded: %', problem;
  END IF;
  PERFORM pg_reload_conf();
END
$do$;
",
    )
}
