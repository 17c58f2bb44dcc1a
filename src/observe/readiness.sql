SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET statement_timeout = '10s';
SET search_path = pg_catalog;
SELECT json_build_object(
  'control', (SELECT json_object_agg(key, value) FROM (
      SELECT key, value FROM pg_control_init() i, json_each_text(row_to_json(i))
      UNION ALL SELECT name, setting FROM pg_settings WHERE name IN ('data_checksums', 'wal_segment_size', 'segment_size')) c),
  'uptime_seconds', extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()),
  'wal_bytes', (SELECT wal_bytes::bigint FROM pg_stat_wal),
  'wal_seconds', (SELECT extract(epoch FROM clock_timestamp() - stats_reset) FROM pg_stat_wal),
  'wal_first', CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn() END,
  'wal_first_at', extract(epoch FROM clock_timestamp()),
  'wal_directory_bytes', (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()),
  'tablespace_bytes', (SELECT json_object_agg(spcname, pg_tablespace_size(oid)) FROM pg_tablespace),
  'walsenders', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'),
  'rewind_role', EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgstead_rewind'),
  'rewind_lacks', (SELECT coalesce(json_agg(f), '[]') FROM unnest(ARRAY['pg_ls_dir(text, boolean, boolean)',
      'pg_stat_file(text, boolean)', 'pg_read_binary_file(text)',
      'pg_read_binary_file(text, bigint, bigint, boolean)']) f
      WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = 'pgstead_rewind')
        AND NOT (SELECT has_function_privilege(r.oid, f, 'EXECUTE') FROM pg_roles r WHERE rolname = 'pgstead_rewind')),
  'backups', (SELECT coalesce(json_agg(concat_ws(' ', application_name, 'from', coalesce(host(client_addr), 'the local socket'),
      'since', date_trunc('second', backend_start))), '[]') FROM pg_stat_activity
      WHERE pid IN (SELECT pid FROM pg_stat_progress_basebackup)),
  'synchronous_commit_overrides', (SELECT coalesce(json_agg(concat_ws(' ', coalesce('role "' || r.rolname || '"', 'all roles'),
      'in', coalesce('database "' || d.datname || '"', 'all databases') || ':', split_part(v, '=', 2))), '[]')
      FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase,
      unnest(s.setconfig) v WHERE v LIKE 'synchronous\_commit=%'),
  'archiver_failing', (SELECT last_failed_wal FROM pg_stat_archiver
      WHERE last_failed_time > coalesce(last_archived_time, '-infinity')),
  'inactive_slots', (SELECT coalesce(json_object_agg(slot_name, coalesce(pg_wal_lsn_diff(
      CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint), '{}')
      FROM pg_replication_slots WHERE NOT active AND NOT temporary),
  'long_transactions', (SELECT coalesce(json_object_agg('pid ' || pid || coalesce(', role "' || usename || '"', ''),
      extract(epoch FROM clock_timestamp() - xact_start)), '{}') FROM pg_stat_activity
      WHERE xact_start < clock_timestamp() - interval '5 min' AND backend_type = 'client backend'),
  'prepared_transactions', (SELECT coalesce(json_object_agg(gid, extract(epoch FROM clock_timestamp() - prepared)), '{}')
      FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - interval '5 min')
);
