SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET statement_timeout = '10s';
SET search_path = pg_catalog;
SELECT json_build_object(
  'provider', d.datlocprovider,
  'collation', coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate),
  'ctype', d.datctype,
  'collation_version', d.datcollversion,
  'actual_version', pg_database_collation_actual_version(d.oid),
  'collations', (SELECT coalesce(json_agg(DISTINCT collname || CASE collprovider WHEN 'i' THEN ' (ICU)' ELSE ' (libc)' END), '[]')
      FROM pg_collation WHERE collprovider IN ('c', 'i') AND collname NOT IN ('C', 'POSIX') AND collname !~* '^c\.utf-?8$'
        AND oid IN (SELECT attcollation FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
                    WHERE relkind IN ('r', 'm', 'i', 'p') AND attrelid >= 16384)),
  'stale_collations', (SELECT coalesce(json_agg(collname || ': ' || collversion || ', now ' || pg_collation_actual_version(oid)), '[]')
      FROM pg_collation WHERE collversion IS DISTINCT FROM pg_collation_actual_version(oid) AND collversion IS NOT NULL),
  'extensions', (SELECT json_object_agg(extname, extversion) FROM pg_extension),
  'libraries', (SELECT coalesce(json_agg(DISTINCT probin), '[]') FROM pg_proc WHERE probin <> '' AND oid >= 16384),
  'unlogged_tables', (SELECT count(*) FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'),
  'files', (SELECT sum(1 + CASE WHEN relkind IN ('r', 't', 'm') THEN 2 ELSE 0 END + relpages / 131072)::bigint
      FROM pg_class WHERE relkind IN ('r', 't', 'm', 'i', 'S'))
) FROM pg_database d WHERE datname = current_database();
