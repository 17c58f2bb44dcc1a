-- @@SESSION@@
SET statement_timeout = '10s';
-- No function tells a standby's timeline that receives nothing: its control file names that of its last restartpoint, which
-- may be an older one. Its answer to IDENTIFY_SYSTEM is the timeline of the last record that it replayed (walsender.c,
-- GetStandbyFlushRecPtr), in every version.
SELECT pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_stat_wal_receiver) AS alone \gset
\set replayed ''
\if :alone
  \set replayed `PGDATABASE=:'DBNAME' :'program' -XAtqw -h :'HOST' -p :'PORT' -U :'USER' -d replication=database -c IDENTIFY_SYSTEM 2>/dev/null | cut -s -d '|' -f 2`
\endif
-- When its files changed, to the nanosecond: pg_stat_file knows whole seconds, and one that was installed right behind a reload
-- would be taken for read.
SELECT current_setting('config_file') AS config, current_setting('hba_file') AS hba, current_setting('ident_file') AS ident,
  current_setting('ssl_ca_file') AS ca, current_setting('ssl_cert_file') AS certificate, current_setting('ssl_key_file') AS key \gset
\set changed `stat -L -c '%.9Y %n' -- :'config' :'hba' :'ident' :'ca' :'certificate' :'key' 2>/dev/null`
WITH line AS (
  SELECT CASE
    WHEN NOT pg_is_in_recovery()
      THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int
    ELSE coalesce((SELECT received_tli FROM pg_stat_wal_receiver),
                  nullif(:'replayed', '')::int,
                  nullif((SELECT min_recovery_end_timeline FROM pg_control_recovery()), 0),
                  (SELECT timeline_id FROM pg_control_checkpoint()))
  END AS tli
)
SELECT json_build_object(
  'in_recovery', pg_is_in_recovery(),
  'system_identifier', (SELECT system_identifier FROM pg_control_system()),
  'timeline', line.tli,
  'replayed_timeline', nullif(:'replayed', '')::int,
  'history', encode(pg_read_binary_file('pg_wal/' || upper(lpad(to_hex(line.tli), 8, '0')) || '.history', 0, 1000000, true), 'hex'),
  'current', CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END,
  'receive', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END,
  'replay', CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END,
  'replayed_commit', CASE WHEN pg_is_in_recovery() THEN date_trunc('milliseconds', pg_last_xact_replay_timestamp()) END,
  'replay_pause_state', CASE WHEN pg_is_in_recovery() THEN pg_get_wal_replay_pause_state() END,
  'settings', (SELECT json_object_agg(s.name, json_build_object('unit', unit, 'context', context,
      'pending_restart', pending_restart, 'boot', boot_val,
      -- What this session has set for itself is not what the server has.
      'setting', CASE source WHEN 'session' THEN reset_val ELSE setting END,
      'sourcefile', CASE source WHEN 'session' THEN f.file ELSE sourcefile END,
      'source', CASE WHEN source <> 'session' THEN source WHEN f.file IS NULL THEN 'default' ELSE 'configuration file' END))
    FROM pg_settings s LEFT JOIN (SELECT lower(name) AS name, max(sourcefile) AS file FROM pg_file_settings WHERE applied GROUP BY 1) f
      ON f.name = lower(s.name) WHERE context <> 'internal'),
  'roles', (SELECT json_object_agg(rolname, json_build_object('superuser', rolsuper, 'replication', rolreplication,
      'login', rolcanlogin, 'verifier_sha256', encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex'),
      'salted', substring(rolpassword FROM '^SCRAM-SHA-256[$]([^$]+)[$]'), 'connection_limit', rolconnlimit,
      'member_of', (SELECT coalesce(json_agg(DISTINCT g.rolname::text), '[]') FROM pg_auth_members m
        JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = pg_authid.oid),
      'createrole', rolcreaterole, 'powers', (SELECT coalesce(json_agg(g.rolname ORDER BY g.rolname), '[]') FROM pg_authid g
        WHERE g.oid <> pg_authid.oid AND NOT pg_authid.rolsuper AND pg_has_role(pg_authid.oid, g.oid, 'member')
          AND (g.rolsuper OR g.rolreplication OR g.rolcreaterole
            OR g.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files'))),
      'comment', shobj_description(oid, 'pg_authid'), 'complete', CASE rolname
        WHEN 'pgstead' THEN pg_has_role(oid, 'pg_monitor', 'member') AND pg_has_role(oid, 'pg_checkpoint', 'member')
          AND (current_setting('server_version_num')::int < 170000 OR EXISTS (SELECT FROM pg_db_role_setting
            WHERE setrole = pg_authid.oid AND setdatabase = 0 AND 'event_triggers=off' = ANY (setconfig)))
          AND coalesce(has_schema_privilege(oid, to_regnamespace('pgstead')::oid, 'usage'), true)
          AND coalesce(has_table_privilege(oid, to_regclass('pgstead.canary')::oid, 'select')
            AND has_table_privilege(oid, to_regclass('pgstead.canary')::oid, 'insert')
            AND has_table_privilege(oid, to_regclass('pgstead.canary')::oid, 'delete'), true)
        WHEN 'pgstead_rewind' THEN has_function_privilege(oid, 'pg_ls_dir(text, boolean, boolean)', 'execute')
          AND has_function_privilege(oid, 'pg_stat_file(text, boolean)', 'execute')
          AND has_function_privilege(oid, 'pg_read_binary_file(text)', 'execute')
          AND has_function_privilege(oid, 'pg_read_binary_file(text, bigint, bigint, boolean)', 'execute') END))
      FROM pg_authid WHERE rolname NOT LIKE 'pg\_%'),
  'databases', (SELECT json_agg(datname) FROM pg_database WHERE datallowconn),
  'owners', (SELECT json_object_agg(datname, pg_get_userbyid(datdba)) FROM pg_database),
  'slots', (SELECT coalesce(json_object_agg(slot_name, json_build_object('slot_type', slot_type, 'active', active,
      'active_pid', active_pid, 'wal_status', wal_status, 'restart_lsn', restart_lsn, 'safe_wal_size', safe_wal_size,
      'temporary', temporary, 'failover', coalesce((to_jsonb(r) ->> 'failover')::boolean, false),
      'synced', coalesce((to_jsonb(r) ->> 'synced')::boolean, false), 'invalidation_reason', to_jsonb(r) ->> 'invalidation_reason',
      'inactive_s', greatest(extract(epoch FROM clock_timestamp() - (to_jsonb(r) ->> 'inactive_since')::timestamptz), 0)::bigint)), '{}')
      FROM pg_replication_slots r),
  'senders', (SELECT coalesce(json_agg(json_build_object('pid', r.pid, 'usename', r.usename,
      'application_name', r.application_name, 'client_addr', host(r.client_addr), 'state', r.state,
      'sync_state', r.sync_state, 'sent_lsn', r.sent_lsn, 'flush_lsn', r.flush_lsn, 'replay_lsn', r.replay_lsn,
      'reply_time_us', (extract(epoch FROM r.reply_time) * 1000000)::bigint, 'ssl', coalesce(s.ssl, false),
      'tls_version', s.version, 'client_dn', s.client_dn, 'slot_name', l.slot_name)), '[]')
      FROM pg_stat_replication r LEFT JOIN pg_stat_ssl s USING (pid)
      LEFT JOIN pg_replication_slots l ON l.active_pid = r.pid),
  'receiver', (SELECT json_build_object('status', status, 'sender_host', sender_host, 'sender_port', sender_port,
      'slot_name', slot_name, 'conninfo', conninfo, 'received_timeline', received_tli, 'latest_end_lsn', latest_end_lsn)
      FROM pg_stat_wal_receiver),
  'file_errors', (SELECT coalesce(json_agg(e), '[]') FROM (
      SELECT sourcefile AS file, sourceline AS line, coalesce(name || ': ', '') || error AS error
        FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'
          OR error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_settings p WHERE p.name = pg_file_settings.name AND p.context = 'postmaster')
      UNION ALL SELECT current_setting('hba_file'), line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL
      UNION ALL SELECT current_setting('ident_file'), line_number, error FROM pg_ident_file_mappings WHERE error IS NOT NULL) e),
  'stale_files', (SELECT coalesce(json_agg(f.name ORDER BY f.name), '[]')
      FROM (SELECT setting AS name FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file', 'ssl_ca_file',
        'ssl_cert_file', 'ssl_key_file') AND setting LIKE '/%') f
      JOIN unnest(string_to_array(:'changed', E'\n')) line ON substr(line, strpos(line, ' ') + 1) = f.name
      WHERE substring(line FROM '^[0-9]+\.[0-9]{9}(?= )')::numeric > extract(epoch FROM pg_conf_load_time())),
  'database_bytes', (SELECT sum(pg_database_size(oid))::bigint FROM pg_database),
  'wal_timeline', (SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'),
  'wal_directory_bytes', (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()),
  'canary', to_regclass('pgstead.canary') IS NOT NULL,
  'canary_chain', EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('pgstead.canary') AND attname = 'hash'
      AND NOT attisdropped),
  'tablespaces', (SELECT coalesce(json_object_agg(spcname, pg_tablespace_location(oid)), '{}')
      FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''),
  'tablespace_bytes', (SELECT coalesce(json_object_agg(spcname, pg_tablespace_size(oid)), '{}')
      FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''),
  'file_settings', (SELECT coalesce(json_agg(json_build_object('file', sourcefile, 'line', sourceline, 'name', name,
      'setting', setting) ORDER BY seqno), '[]') FROM pg_file_settings WHERE name IS NOT NULL AND setting IS NOT NULL),
  'included_files', (SELECT coalesce(json_object_agg(f, encode(pg_read_binary_file(f, 0, 1000000, true), 'hex')), '{}')
      FROM (SELECT DISTINCT sourcefile AS f FROM pg_file_settings WHERE sourcefile NOT LIKE '%/postgresql.auto.conf'
        AND sourcefile NOT LIKE '%/pgstead.conf' AND sourcefile <> current_setting('config_file')) i),
  'certificate', CASE WHEN current_setting('ssl') = 'on'
      THEN encode(pg_read_binary_file(nullif(current_setting('ssl_cert_file'), ''), 0, 1000000, true), 'hex') END,
  'authorities', CASE WHEN current_setting('ssl') = 'on'
      THEN encode(pg_read_binary_file(nullif(current_setting('ssl_ca_file'), ''), 0, 1000000, true), 'hex') END,
  'health', json_build_object(
    'trusted', (SELECT coalesce(json_agg(json_build_object('line', line_number, 'database', array_to_string(database, ','),
        'user', array_to_string(user_name, ','), 'address', address) ORDER BY line_number), '[]')
        FROM pg_hba_file_rules WHERE auth_method = 'trust' AND type <> 'local' AND database && '{all,replication}'
          AND address <> ALL ('{samehost,::1}') AND address NOT LIKE '127.%'),
    'unserved', (SELECT coalesce(json_agg(s.name ORDER BY s.name), '[]')
        FROM pg_settings s JOIN pg_file_settings f ON f.name = s.name AND f.applied AND f.error IS NULL
        -- A server writes a value as it understands it: words of an enum have aliases, a time zone its own spelling,
        -- and archive_command is not shown while nothing is archived. What an extension makes of its own, nobody knows.
        CROSS JOIN LATERAL (SELECT CASE WHEN lower(f.setting) IN ('true', 'yes', '1') THEN 'on'
            WHEN lower(f.setting) IN ('false', 'no', '0') THEN 'off' ELSE lower(f.setting) END AS word) w
        WHERE s.context = 'sighup' AND NOT s.pending_restart AND s.name NOT LIKE '%.%' AND CASE s.vartype
          WHEN 'string' THEN s.setting <> '(disabled)'
            AND CASE s.name WHEN 'log_timezone' THEN lower(f.setting) <> lower(s.setting) ELSE f.setting <> s.setting END
          WHEN 'enum' THEN w.word = ANY (s.enumvals) AND w.word <> lower(s.setting)
          WHEN 'bool' THEN f.setting::boolean <> s.setting::boolean
          ELSE false END),
    'checksum_failures', (SELECT coalesce(json_agg(json_build_object('database', coalesce(datname, ''),
        'failures', checksum_failures, 'last', checksum_last_failure::text)), '[]')
        FROM pg_stat_database WHERE checksum_failures > 0),
    'collations', (SELECT coalesce(json_agg(json_build_object('database', datname, 'recorded', datcollversion,
        'actual', pg_database_collation_actual_version(oid)) ORDER BY datname), '[]') FROM pg_database
        WHERE datallowconn AND (datcollversion IS NOT NULL OR pg_database_collation_actual_version(oid) IS NOT NULL)),
    'sync_waits_ms', (SELECT coalesce(json_agg((extract(epoch FROM clock_timestamp() - query_start) * 1000)::bigint), '[]')
        FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query_start <= clock_timestamp()),
    'commit_overrides', (SELECT coalesce(json_agg(concat_ws(' ', 'role ' || rolname, 'database ' || datname) || ': ' || c), '[]')
        FROM pg_db_role_setting d LEFT JOIN pg_roles r ON r.oid = d.setrole LEFT JOIN pg_database b ON b.oid = d.setdatabase
        CROSS JOIN unnest(d.setconfig) c WHERE c LIKE 'synchronous\_commit=%'),
    'archiver', (SELECT json_build_object('last_archived_wal', last_archived_wal,
        'last_archived_us', (extract(epoch FROM last_archived_time) * 1000000)::bigint, 'failed_count', failed_count,
        'last_failed_wal', last_failed_wal, 'last_failed_us', (extract(epoch FROM last_failed_time) * 1000000)::bigint,
        'ready', (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready')) FROM pg_stat_archiver),
    'wal', (SELECT json_build_object('bytes', wal_bytes::bigint,
        'seconds', greatest(extract(epoch FROM clock_timestamp() - stats_reset), 0)::bigint) FROM pg_stat_wal),
    'crl', CASE WHEN current_setting('ssl_crl_file') <> '' THEN encode(pg_read_binary_file(current_setting('ssl_crl_file'), 0, 1000000, true), 'hex') END)
) FROM line;
