//! The questions we ask, each with its SQL and the decoding of its rows.
//!
//! Every column is cast to `text`, `int8` or `boolean`, so that decoding needs no further types.

use std::str::FromStr;

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

use crate::model::lsn::Lsn;
use crate::postgres::client::Client;
use crate::postgres::error::PostgresError;

/// A written canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// Its row's key.
    pub seq: i64,
    /// A position behind its commit: a standby that has replayed this has replayed the canary.
    pub lsn: Lsn,
}

const WRITE: &str = "write a canary";
const CHAIN: &str = "read the chain of canaries";

/// One hash over many canaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainDigest {
    /// How many they are.
    pub rows: i64,
    /// The hash over their numbers and hashes.
    pub sha256: String,
}

/// What a standby says about a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryState {
    /// The nonce of the row, where the row is there.
    pub nonce: Option<String>,
    /// `pg_last_wal_replay_lsn()`; none on a server that never was in recovery.
    pub replay_lsn: Option<Lsn>,
    /// `pg_last_wal_receive_lsn()`; none where nothing was streamed yet.
    pub receive_lsn: Option<Lsn>,
}

/// What decides whether a standby can stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is a standby at all.
    pub in_recovery: bool,
    /// Whether replay is paused, in PostgreSQL's words; none where it is no standby.
    pub pause_state: Option<String>,
    /// `primary_conninfo`.
    pub conninfo: String,
    /// `primary_slot_name`.
    pub slot_name: String,
    /// `recovery_min_apply_delay` in milliseconds.
    pub apply_delay_ms: i64,
    /// Settings that end a recovery, each with its value and where it stands.
    pub targets: Vec<String>,
}

/// One row of `pg_stat_replication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderState {
    /// The walsender's process.
    pub pid: i64,
    /// `startup`, `catchup`, `streaming`, `backup` or `stopping`.
    pub state: String,
    /// `async`, `potential`, `sync` or `quorum`.
    pub sync_state: String,
    /// The last position sent.
    pub sent_lsn: Option<Lsn>,
    /// The last position that the standby has on disk.
    pub flush_lsn: Option<Lsn>,
    /// The last position that the standby has replayed.
    pub replay_lsn: Option<Lsn>,
    /// When the standby sent its last reply, by its own clock, in microseconds since 1970.
    pub reply_time_us: Option<i64>,
}

/// One row of `pg_stat_progress_basebackup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasebackupProgress {
    /// The walsender's process.
    pub pid: i64,
    /// The phase, in PostgreSQL's words.
    pub phase: String,
    /// `backup_streamed`.
    pub streamed_bytes: i64,
    /// `backup_total`; none while the size is not estimated.
    pub total_bytes: Option<i64>,
}

/// A connection through which a server sends a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Whether it is at work, and does not wait for the next command.
    pub is_active: bool,
    /// What it waits for, as `Client/ClientWrite`; none where it works.
    pub wait_event: Option<String>,
}

impl Client {
    /// Lets the commits of this session wait for synchronous standbys, as those of clients do; others of ours do not (hazard 28).
    ///
    /// # Errors
    /// The session is closed.
    pub async fn wait_as_clients_do(&self) -> Result<(), PostgresError> {
        self.query("wait for synchronous standbys", "SET synchronous_commit = on", &[]).await.map(drop)
    }

    /// Writes a canary on the primary, chained to the one before it, and removes those that nobody needs any more. One
    /// round trip; a table that an earlier release made costs a second one, and its rows have no chain.
    ///
    /// # Errors
    /// The server is in recovery (SQLSTATE 25006), or the canary table is missing or not ours to write.
    pub async fn write_canary(&self, nonce: &str) -> Result<Canary, PostgresError> {
        match self.write_chained_canary(nonce).await {
            Err(error) if error.is_undefined_column() => self.write_lone_canary(nonce).await,
            result => result,
        }
    }

    async fn write_chained_canary(&self, nonce: &str) -> Result<Canary, PostgresError> {
        // Whoever writes at the same time waits here, so that the order of the rows is the order of their commits and
        // the next statement sees the row before.
        const LOCK: &str = "LOCK TABLE pgstead.canary IN SHARE ROW EXCLUSIVE MODE";
        // The newest 1000 rows stay, and those of a week; never more than 5000, for each has a page of its own. What
        // goes is always the beginning of the chain.
        const INSERT: &str = "WITH old AS (DELETE FROM pgstead.canary WHERE seq <= (
                SELECT greatest(max(seq) - 5000, least(max(seq) - 1000, coalesce((SELECT max(seq) FROM pgstead.canary
                    WHERE written_at < clock_timestamp() - interval '7 days'), 0))) FROM pgstead.canary))
            INSERT INTO pgstead.canary (nonce, prev_hash)
            SELECT $1, coalesce((SELECT hash FROM pgstead.canary ORDER BY seq DESC LIMIT 1), '') RETURNING seq::int8";
        // Its own statement: only now is the commit record written, and the position behind it. Reading the row settles
        // its hint bits while its page is new, so that no later image of the page is needed for them.
        const POSITION: &str = "SELECT pg_current_wal_insert_lsn()::text,
            (SELECT hash FROM pgstead.canary ORDER BY seq DESC LIMIT 1)";
        let insert = [(&nonce as _, Type::TEXT)];
        let (begun, locked, inserted, _, position) = tokio::join!(
            biased;
            self.query(WRITE, "BEGIN", &[]),
            self.query(WRITE, LOCK, &[]),
            self.query(WRITE, INSERT, &insert),
            self.query(WRITE, "COMMIT", &[]),
            self.query(WRITE, POSITION, &[])
        );
        // The first failure is the reason; a failed transaction is rolled back by its COMMIT.
        begun?;
        locked?;
        self.written(inserted, position)
    }

    async fn write_lone_canary(&self, nonce: &str) -> Result<Canary, PostgresError> {
        const INSERT: &str =
            "WITH old AS (DELETE FROM pgstead.canary WHERE written_at < clock_timestamp() - interval '1 day')
            INSERT INTO pgstead.canary (nonce) VALUES ($1) RETURNING seq::int8";
        const POSITION: &str = "SELECT pg_current_wal_insert_lsn()::text";
        let insert = [(&nonce as _, Type::TEXT)];
        let (inserted, position) =
            tokio::join!(biased; self.query(WRITE, INSERT, &insert), self.query(WRITE, POSITION, &[]));
        self.written(inserted, position)
    }

    fn written(
        &self,
        inserted: Result<Vec<Row>, PostgresError>,
        position: Result<Vec<Row>, PostgresError>,
    ) -> Result<Canary, PostgresError> {
        let inserted = self.one(WRITE, inserted?)?;
        let position = self.one(WRITE, position?)?;
        Ok(Canary { seq: self.get(WRITE, &inserted, 0)?, lsn: self.lsn(WRITE, &position, 0)? })
    }

    /// Returns one hash over the chain of canaries up to one of them, and how many they are. Equal on two servers, their
    /// chains are equal. None where the table is of an earlier release and has no chain.
    ///
    /// # Errors
    /// The canary table is missing or not ours to read.
    pub async fn chain_digest(&self, seq: i64) -> Result<Option<ChainDigest>, PostgresError> {
        const SQL: &str = "SELECT count(*)::int8,
            encode(sha256(convert_to(coalesce(string_agg(concat(seq, ' ', hash), ' ' ORDER BY seq), ''), 'UTF8')), 'hex')
            FROM pgstead.canary WHERE seq <= $1";
        let rows = match self.query(CHAIN, SQL, &[(&seq, Type::INT8)]).await {
            Err(error) if error.is_undefined_column() => return Ok(None),
            result => result?,
        };
        let row = self.one(CHAIN, rows)?;
        Ok(Some(ChainDigest { rows: self.get(CHAIN, &row, 0)?, sha256: self.get(CHAIN, &row, 1)? }))
    }

    /// Returns the canaries up to one of them, in order: number and hash.
    ///
    /// # Errors
    /// The canary table is missing, has no chain, or is not ours to read.
    pub async fn chain(&self, seq: i64) -> Result<Vec<(i64, String)>, PostgresError> {
        const SQL: &str = "SELECT seq::int8, hash FROM pgstead.canary WHERE seq <= $1 ORDER BY seq";
        let rows = self.query(CHAIN, SQL, &[(&seq, Type::INT8)]).await?;
        rows.iter().map(|row| Ok((self.get(CHAIN, row, 0)?, self.get(CHAIN, row, 1)?))).collect()
    }

    /// Looks for a canary on a standby.
    ///
    /// # Errors
    /// The canary table is missing or not ours to read.
    pub async fn canary_state(&self, seq: i64) -> Result<CanaryState, PostgresError> {
        const WHAT: &str = "look for a canary";
        const SQL: &str = "SELECT (SELECT nonce FROM pgstead.canary WHERE seq = $1),
            pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text";
        let row = self.one(WHAT, self.query(WHAT, SQL, &[(&seq, Type::INT8)]).await?)?;
        Ok(CanaryState {
            nonce: self.get(WHAT, &row, 0)?,
            replay_lsn: self.optional_lsn(WHAT, &row, 1)?,
            receive_lsn: self.optional_lsn(WHAT, &row, 2)?,
        })
    }

    /// Returns how far a standby is, where it has no canary table yet.
    ///
    /// # Errors
    /// The query fails.
    pub async fn replayed(&self) -> Result<CanaryState, PostgresError> {
        const WHAT: &str = "read how far it has replayed";
        const SQL: &str = "SELECT pg_last_wal_replay_lsn()::text, pg_last_wal_receive_lsn()::text";
        let row = self.one(WHAT, self.query(WHAT, SQL, &[]).await?)?;
        let (replay_lsn, receive_lsn) = (self.optional_lsn(WHAT, &row, 0)?, self.optional_lsn(WHAT, &row, 1)?);
        Ok(CanaryState { nonce: None, replay_lsn, receive_lsn })
    }

    /// Returns what decides whether a standby can stream.
    ///
    /// # Errors
    /// The query fails.
    pub async fn standing(&self) -> Result<Standing, PostgresError> {
        const WHAT: &str = "read what decides whether it can stream";
        const SQL: &str = "SELECT pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END,
            current_setting('primary_conninfo'), current_setting('primary_slot_name'),
            (SELECT setting::int8 FROM pg_settings WHERE name = 'recovery_min_apply_delay'),
            ARRAY(SELECT format('%s = %L%s', name, setting, ' in ' || sourcefile || ' line ' || sourceline) FROM pg_settings
                WHERE name IN ('recovery_target', 'recovery_target_lsn', 'recovery_target_name', 'recovery_target_time',
                    'recovery_target_xid', 'promote_trigger_file') AND setting <> '' ORDER BY name)";
        let row = self.one(WHAT, self.query(WHAT, SQL, &[]).await?)?;
        Ok(Standing {
            in_recovery: self.get(WHAT, &row, 0)?,
            pause_state: self.get(WHAT, &row, 1)?,
            conninfo: self.get(WHAT, &row, 2)?,
            slot_name: self.get(WHAT, &row, 3)?,
            apply_delay_ms: self.get::<Option<i64>>(WHAT, &row, 4)?.unwrap_or_default(),
            targets: self.get(WHAT, &row, 5)?,
        })
    }

    /// Returns `wal_status` of a slot, empty where it reserves nothing; none where there is no such slot.
    ///
    /// # Errors
    /// The query fails.
    pub async fn slot_wal_status(&self, slot: &str) -> Result<Option<String>, PostgresError> {
        const WHAT: &str = "read the state of a slot";
        const SQL: &str = "SELECT coalesce(wal_status, '') FROM pg_replication_slots WHERE slot_name = $1";
        let rows = self.query(WHAT, SQL, &[(&slot, Type::TEXT)]).await?;
        rows.first().map(|row| self.get(WHAT, row, 0)).transpose()
    }

    /// Returns the walsenders that serve a standby, the newest first. More than one means that an old one lingers.
    ///
    /// # Errors
    /// The query fails.
    pub async fn sender_states(&self, application_name: &str) -> Result<Vec<SenderState>, PostgresError> {
        const WHAT: &str = "read pg_stat_replication";
        const SQL: &str =
            "SELECT pid::int8, coalesce(state, ''), coalesce(sync_state, ''), sent_lsn::text, flush_lsn::text,
            replay_lsn::text, (extract(epoch FROM reply_time) * 1000000)::int8
            FROM pg_stat_replication WHERE application_name = $1 ORDER BY backend_start DESC";
        let rows = self.query(WHAT, SQL, &[(&application_name, Type::TEXT)]).await?;
        rows.iter()
            .map(|row| {
                Ok(SenderState {
                    pid: self.get(WHAT, row, 0)?,
                    state: self.get(WHAT, row, 1)?,
                    sync_state: self.get(WHAT, row, 2)?,
                    sent_lsn: self.optional_lsn(WHAT, row, 3)?,
                    flush_lsn: self.optional_lsn(WHAT, row, 4)?,
                    replay_lsn: self.optional_lsn(WHAT, row, 5)?,
                    reply_time_us: self.get(WHAT, row, 6)?,
                })
            })
            .collect()
    }

    /// Returns how far the base backup of a client is, where one is under way.
    ///
    /// # Errors
    /// The query fails.
    pub async fn basebackup_progress(
        &self,
        application_name: &str,
    ) -> Result<Option<BasebackupProgress>, PostgresError> {
        const WHAT: &str = "read pg_stat_progress_basebackup";
        const SQL: &str = "SELECT p.pid::int8, p.phase, p.backup_streamed::int8, p.backup_total::int8
            FROM pg_stat_progress_basebackup p JOIN pg_stat_activity a USING (pid)
            WHERE a.application_name = $1 ORDER BY a.backend_start DESC LIMIT 1";
        let rows = self.query(WHAT, SQL, &[(&application_name, Type::TEXT)]).await?;
        rows.first()
            .map(|row| {
                Ok(BasebackupProgress {
                    pid: self.get(WHAT, row, 0)?,
                    phase: self.get(WHAT, row, 1)?,
                    streamed_bytes: self.get(WHAT, row, 2)?,
                    total_bytes: self.get(WHAT, row, 3)?,
                })
            })
            .transpose()
    }

    /// Returns the connections of a copy that is under way; the walsender that streams WAL beside it is none of them.
    ///
    /// # Errors
    /// The query fails.
    pub async fn sending(&self, application_name: &str) -> Result<Vec<Sending>, PostgresError> {
        const WHAT: &str = "read what the connections of a copy wait for";
        const SQL: &str = "SELECT state = 'active', wait_event_type || '/' || wait_event FROM pg_stat_activity a
            WHERE application_name = $1 AND NOT EXISTS (SELECT FROM pg_stat_replication r
                WHERE r.pid = a.pid AND r.state IN ('startup', 'catchup', 'streaming'))
            ORDER BY backend_start DESC";
        let rows = self.query(WHAT, SQL, &[(&application_name, Type::TEXT)]).await?;
        rows.iter()
            .map(|row| {
                let is_active: Option<bool> = self.get(WHAT, row, 0)?;
                Ok(Sending { is_active: is_active == Some(true), wait_event: self.get(WHAT, row, 1)? })
            })
            .collect()
    }

    /// Returns where the server is: its own WAL position on a primary, what it has replayed on a standby.
    ///
    /// # Errors
    /// The query fails.
    pub async fn position(&self) -> Result<Option<Lsn>, PostgresError> {
        const WHAT: &str = "read its WAL position";
        const SQL: &str =
            "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text";
        let row = self.one(WHAT, self.query(WHAT, SQL, &[]).await?)?;
        self.optional_lsn(WHAT, &row, 0)
    }

    /// Returns the last file that was archived, of `pg_stat_archiver`.
    ///
    /// # Errors
    /// The query fails.
    pub async fn last_archived(&self) -> Result<Option<String>, PostgresError> {
        const WHAT: &str = "read pg_stat_archiver";
        let row = self.one(WHAT, self.query(WHAT, "SELECT last_archived_wal FROM pg_stat_archiver", &[]).await?)?;
        self.get(WHAT, &row, 0)
    }

    /// Returns what the server's clock says, as text.
    ///
    /// # Errors
    /// The query fails.
    pub async fn clock(&self) -> Result<String, PostgresError> {
        const WHAT: &str = "read its clock";
        let row = self.one(WHAT, self.query(WHAT, "SELECT clock_timestamp()::text", &[]).await?)?;
        self.get(WHAT, &row, 0)
    }

    /// Returns the transactions of clients that began before a moment of the server's clock and are not ended, the oldest first,
    /// each in a few words.
    ///
    /// # Errors
    /// The query fails.
    pub async fn transactions_before(&self, moment: &str) -> Result<Vec<String>, PostgresError> {
        const WHAT: &str = "look for transactions that are under way";
        const SQL: &str = "SELECT format('process %s of \"%s\"%s, since %s, %s', pid, usename,
                CASE WHEN application_name = '' THEN '' ELSE format(' (%s)', application_name) END,
                date_trunc('second', xact_start), state)
            FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND xact_start < $1::text::timestamptz AND pid <> pg_backend_pid()
            ORDER BY xact_start";
        let rows = self.query(WHAT, SQL, &[(&moment, Type::TEXT)]).await?;
        rows.iter().map(|row| self.get(WHAT, row, 0)).collect()
    }

    /// Says whether the server is in recovery.
    ///
    /// # Errors
    /// The query fails.
    pub async fn in_recovery(&self) -> Result<bool, PostgresError> {
        const WHAT: &str = "ask whether it is in recovery";
        let row = self.one(WHAT, self.query(WHAT, "SELECT pg_is_in_recovery()", &[]).await?)?;
        self.get(WHAT, &row, 0)
    }

    /// Returns the timeline that a primary writes.
    ///
    /// # Errors
    /// The server is in recovery (SQLSTATE 55000).
    pub async fn written_timeline(&self) -> Result<i32, PostgresError> {
        const WHAT: &str = "read its timeline";
        const SQL: &str = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int4";
        let row = self.one(WHAT, self.query(WHAT, SQL, &[]).await?)?;
        self.get(WHAT, &row, 0)
    }

    fn one(&self, what: &'static str, rows: Vec<Row>) -> Result<Row, PostgresError> {
        rows.into_iter().next().ok_or_else(|| self.odd(what, "there is no row".to_owned()))
    }

    fn get<'a, T: FromSql<'a>>(&self, what: &'static str, row: &'a Row, column: usize) -> Result<T, PostgresError> {
        row.try_get(column).map_err(|error| self.odd(what, error.to_string()))
    }

    fn lsn(&self, what: &'static str, row: &Row, column: usize) -> Result<Lsn, PostgresError> {
        let text: &str = self.get(what, row, column)?;
        Lsn::from_str(text).map_err(|error| self.odd(what, error.to_string()))
    }

    fn optional_lsn(&self, what: &'static str, row: &Row, column: usize) -> Result<Option<Lsn>, PostgresError> {
        let text: Option<&str> = self.get(what, row, column)?;
        text.map(|text| Lsn::from_str(text).map_err(|error| self.odd(what, error.to_string()))).transpose()
    }

    fn odd(&self, what: &'static str, detail: String) -> PostgresError {
        PostgresError::Answer { server: self.server().clone(), what, detail }
    }
}
