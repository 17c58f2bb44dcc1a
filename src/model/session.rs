//! What a session of ours is like, whatever the server, its databases, its roles and the machine's environment say.
//!
//! A server's defaults are for its clients: a default of read-only, of another isolation or of a timeout would make our own
//! work fail, and a variable of libpq in `/etc/environment` would lead it elsewhere. Values travel in the startup message,
//! where they win over those of a role or a database (manual, 20.1.3), and hold from the first statement on.

use std::sync::LazyLock;

use crate::model::argv::Piece;
use crate::model::version::Major;
use crate::quote::sh;
use crate::quote::sql::Sql;

/// What every session sets.
const SETTINGS: [(&str, &str); 20] = [
    ("role", "none"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("default_tablespace", ""),
    ("default_table_access_method", "heap"),
    // No commit of ours waits for a standby (hazard 28).
    ("synchronous_commit", "local"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("client_min_messages", "warning"),
    ("search_path", "pg_catalog"),
    ("row_security", "on"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("bytea_output", "hex"),
    ("standard_conforming_strings", "on"),
    ("transform_null_equals", "off"),
    ("jit", "off"),
];

/// What a session sets besides from version 17 on; an earlier server would refuse it.
const SINCE_17: [(&str, &str); 1] = [("transaction_timeout", "0")];

/// What a superuser's session sets besides: no trigger of somebody else's fires, but those that always do; nothing of it gets into the server's log, or into the statements that
/// `pg_stat_statements` and its like keep for anybody who may read them (hazard 84). Where these are not loaded, their
/// parameters are names without a meaning.
const OF_SUPERUSER: [(&str, &str); 11] = [
    ("session_replication_role", "replica"),
    ("log_statement", "none"),
    ("log_duration", "off"),
    ("log_min_duration_statement", "-1"),
    ("log_min_duration_sample", "-1"),
    ("log_transaction_sample_rate", "0"),
    ("log_min_error_statement", "panic"),
    ("debug_print_parse", "off"),
    ("pg_stat_statements.track", "none"),
    ("pg_stat_monitor.pgsm_track", "none"),
    ("auto_explain.log_min_duration", "-1"),
];

/// The same from version 17 on: a trigger of somebody else's runs neither at our login nor behind our statements.
const OF_SUPERUSER_SINCE_17: [(&str, &str); 1] = [("event_triggers", "off")];

/// Returns the `options` of a session of a role that is no superuser.
pub fn options(version: Option<Major>) -> String {
    let since_17 = version.is_some_and(|version| version.number() >= 17);
    let mut words = join(&SETTINGS);
    if since_17 {
        words.push(' ');
        words.push_str(&join(&SINCE_17));
    }
    words
}

/// Returns the `options` of a superuser's session that works as another role from its first statement on; none leaves it as it is.
/// No trigger of somebody else's runs at its login (17 and later).
pub fn options_as(version: Option<Major>, role: Option<&str>) -> String {
    let mut words = options(version);
    let mut add = |more: &[(&str, &str)]| {
        words.push(' ');
        words.push_str(&join(more));
    };
    if version.is_some_and(|version| version.number() >= 17) {
        add(&OF_SUPERUSER_SINCE_17);
    }
    // Of two, the later wins.
    if let Some(role) = role {
        add(&[("role", role)]);
    }
    words
}

/// Writes settings as `options` reads them: words are separated by blanks, and a backslash makes a blank a part of one.
fn join(settings: &[(&str, &str)]) -> String {
    let word = |(name, value): &(&str, &str)| {
        let escaped = value.replace('\\', "\\\\").replace(' ', "\\ ");
        ["-c ", name, "=", &escaped].concat()
    };
    settings.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// The text that defines a shell function, `pgstead_session MAJOR`: it takes every variable of libpq out of the environment
/// (manual, 34.15) and sets the options of a session. Those that a superuser has besides are in `pgstead_superuser`.
/// It starts no process: it stands before each session. Without a version, or with 0, it sets what every version knows.
/// `pgstead_triggers` has what keeps triggers away from a login, for a session that sets the rest itself.
pub static FUNCTION: LazyLock<String> = LazyLock::new(|| {
    let assign = |settings: &[(&str, &str)]| sh::quote(&[" ", &join(settings)].concat());
    [
        "pgstead_session() { set -f; for pgstead_name in $(export -p); do case $pgstead_name in PG*=*) pgstead_name=${pgstead_name%%=*}; ",
        "case $pgstead_name in *[!A-Z0-9_]*) ;; *) unset \"$pgstead_name\" ;; esac ;; esac; done; set +f; ",
        "PGCLIENTENCODING=UTF8 PGOPTIONS=",
        &assign(&SETTINGS),
        " pgstead_superuser=",
        &assign(&OF_SUPERUSER),
        " pgstead_triggers=''; if [ \"${1:-0}\" -ge 17 ]; then PGOPTIONS=$PGOPTIONS",
        &assign(&SINCE_17),
        " pgstead_superuser=$pgstead_superuser",
        &assign(&OF_SUPERUSER_SINCE_17),
        " pgstead_triggers=",
        &assign(&OF_SUPERUSER_SINCE_17),
        "; fi; export PGCLIENTENCODING PGOPTIONS; }",
    ]
    .concat()
});

/// The statements by which a superuser's session sets the same for itself. Where it asks what a server has set, options would
/// hide that: a value of theirs is what the session goes back to (manual, 54.24, `reset_val`).
pub static STATEMENTS: LazyLock<String> = LazyLock::new(|| {
    let set = |sql: Sql, (name, value): &(&'static str, &'static str)| {
        sql.text("SET ").text(name).text(" = ").literal(value).text(";\n")
    };
    let sql = SETTINGS.iter().chain(&OF_SUPERUSER).fold(Sql::new(), set);
    // No statement may name what an earlier version does not know.
    let sql = SINCE_17.iter().fold(sql, |sql, (name, value)| {
        let sql = sql.text("DO $do$ BEGIN PERFORM set_config(name, ").literal(value);
        sql.text(", false) FROM pg_settings WHERE name = ").literal(name).text("; END $do$;\n")
    });
    sql.into_pieces()
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Secret(_) => String::new(),
        })
        .collect()
});

/// The text of a script that runs a program of PostgreSQL as a session of a superuser: its arguments.
pub static AS_SUPERUSER: LazyLock<String> = LazyLock::new(|| {
    [
        "# A session as every other of ours: PROGRAM ARGUMENT…\n",
        &FUNCTION,
        "\n# The smallest program beside it tells the version sooner.\nversion=${1%/*}/pg_controldata; [ -x \"$version\" ] || version=$1\n",
        "version=$(\"$version\" --version); version=${version#\"${version%%[0-9]*}\"}\n",
        "pgstead_session \"${version%%[!0-9]*}\"\nPGOPTIONS=$PGOPTIONS$pgstead_superuser exec \"$@\"",
    ]
    .concat()
});

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn run(version: &str, script: &str) -> String {
        let text = [&FUNCTION, "; pgstead_session ", version, "; ", script].concat();
        let output = Command::new("sh")
            .args(["-euc", &text])
            .env("PGSERVICE", "elsewhere")
            .env("PGHOSTADDR", "192.0.2.1")
            .env("PGTARGETSESSIONATTRS", "read-write")
            .env("OTHER", "a\nPGX=1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn nothing_of_libpq_is_inherited() {
        let shown = run("17", "env | grep ^PG | sed 's/=.*//' | sort");
        assert_eq!(shown, "PGCLIENTENCODING\nPGOPTIONS\nPGX\n");
    }

    #[test]
    fn what_a_version_does_not_know_is_left_out() {
        let shown = |version| run(version, "echo \"$PGOPTIONS$pgstead_superuser\"");
        for name in ["transaction_timeout", "event_triggers"] {
            assert!(shown("18").contains(name) && !shown("16").contains(name) && !shown("").contains(name), "{name}");
        }
        assert!(shown("15").contains(r"default_transaction_isolation=read\ committed -c "), "{}", shown("15"));
        assert_eq!(run("17", "printf %s \"${PGOPTIONS# }\"").trim(), options(Major::try_from(17).ok()));
        assert_eq!(run("15", "printf %s \"${PGOPTIONS# }\"").trim(), options(Major::try_from(15).ok()));
    }
}
