-- What roles of applications may do with what the owner of this database makes in schema public; asked in each database that one
-- visits. Only those who may connect by a right of their own, which is given last.
SET statement_timeout = '10s';
SELECT json_build_object('database', current_database(), 'roles', (SELECT coalesce(json_object_agg(rolname, writes), '{}')
  FROM (SELECT r.rolname, bool_or(a.privilege_type = 'INSERT') AS writes
    FROM pg_database b JOIN pg_default_acl d ON d.defaclrole = b.datdba AND d.defaclobjtype = 'r'
        AND d.defaclnamespace = to_regnamespace('public')::oid
      CROSS JOIN LATERAL aclexplode(d.defaclacl) a JOIN pg_authid r ON r.oid = a.grantee
    WHERE b.datname = current_database() AND r.oid <> b.datdba AND EXISTS (SELECT FROM aclexplode(b.datacl) c
      WHERE c.grantee = r.oid AND c.privilege_type = 'CONNECT')
    GROUP BY 1 HAVING bool_or(a.privilege_type = 'SELECT')) v));
