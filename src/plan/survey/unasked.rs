//! An instance that runs and cannot be asked: all its connections are in use, or it lets nobody in like this. It is neither
//! dead nor stopped, whatever else is not known of it, so that nothing is started, stopped or promoted over it.

use crate::diagnostic::{Code, Diagnostic};
use crate::judge::{ServerState, State};
use crate::model::name::ServerName;
use crate::model::observation::ServerObservation;

/// Why a running instance could not be asked, and the way out.
struct Reason {
    /// What PostgreSQL says.
    says: &'static str,
    /// What to do.
    hint: &'static str,
}

/// In the words of PostgreSQL's own log, where it speaks English (`postinit.c`, `proc.c`, `auth.c`).
const REASONS: &[Reason] = &[
    Reason {
        says: "too many clients",
        hint: "All its connections are in use, those reserved for superusers too. End some of them, such as a pool that is too large, and run the same command again; superuser_reserved_connections keeps some free.",
    },
    Reason {
        says: "remaining connection slots are reserved",
        hint: "All its connections are in use. End some of them, such as a pool that is too large, and run the same command again.",
    },
    Reason {
        says: "too many connections for database",
        hint: "pgstead works in database \"postgres\": ALTER DATABASE postgres CONNECTION LIMIT -1; then run the same command again.",
    },
    Reason {
        says: "not currently accepting connections",
        hint: "pgstead works in database \"postgres\". In another database: ALTER DATABASE postgres ALLOW_CONNECTIONS true; then run the same command again.",
    },
    Reason {
        says: "database \"postgres\" does not exist",
        hint: "pgstead works in database \"postgres\". Make it: createdb postgres, as the superuser; then run the same command again.",
    },
    // Up to version 16, with db_user_namespace.
    Reason {
        says: "\"postgres@",
        hint: "db_user_namespace makes other roles of all that log in: of pgstead's, and of those that replicate, too. Set db_user_namespace = off in postgresql.conf and reload the instance, with roles renamed that have an @ in their names; then run the same command again.",
    },
    Reason {
        says: "role \"postgres\"",
        hint: "pgstead acts as superuser \"postgres\". Make it: CREATE ROLE postgres SUPERUSER LOGIN; then run the same command again.",
    },
    Reason {
        says: "pg_hba.conf",
        hint: "Let the instance's OS user in over the local socket: before every other record of its pg_hba.conf \"local all postgres peer\", then reload it, and run the same command again.",
    },
    Reason {
        says: "authentication failed",
        hint: "Let the instance's OS user in over the local socket: before every other record of its pg_hba.conf \"local all postgres peer\", then reload it, and run the same command again.",
    },
];

/// Where PostgreSQL says something else, or in another language.
const OTHER: &str = "What it says is the reason; its log says more. Run the same command again when psql -U postgres -d postgres works there, as the instance's OS user.";

/// Returns why a running instance could not be asked, as a refusal.
pub fn refusal(name: &ServerName, seen: &ServerObservation) -> Option<Diagnostic> {
    let why = seen.unasked()?;
    let message = format!("server \"{name}\": its instance runs, and cannot be asked");
    Some(Diagnostic::error(Code::InstanceUnasked, message).server(name).detail(why.trim()).hint(way_out(why)))
}

/// Returns why an instance that was asked in another way than the usual one cannot be worked with.
pub fn asked_otherwise(name: &ServerName, seen: &ServerObservation) -> Option<Diagnostic> {
    let why = seen.asked_otherwise.as_deref().filter(|_| ServerState::of_seen(seen).instance().is_some())?;
    let message =
        format!("server \"{name}\": its instance does not let superuser \"postgres\" into database \"postgres\"");
    Some(Diagnostic::error(Code::InstanceUnasked, message).server(name).detail(why.trim()).hint(way_out(why)))
}

/// Says what to do about it.
pub fn way_out(why: &str) -> &'static str {
    REASONS.iter().find(|reason| why.contains(reason.says)).map_or(OTHER, |reason| reason.hint)
}

/// Returns why the one that may be the primary could not be asked: it runs, and no signal file says that it is a standby.
pub fn primary(state: &State<'_>) -> Option<Diagnostic> {
    state.servers().find_map(|(name, server)| {
        let refusal = refusal(name, server.seen?)?;
        let is_standby = server.data.is_some() && !server.has_no_signal();
        let stop = " It may be the primary, and accept writes. One that is broken is stopped by you first.";
        let hint = [refusal.hint.as_deref().unwrap_or_default(), stop].concat();
        (!is_standby).then(|| refusal.hint(hint))
    })
}
