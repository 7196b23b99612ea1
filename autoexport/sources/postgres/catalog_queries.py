"""States the queries on PostgreSQL's catalogs (manual, chapter "System Catalogs"). `$1` are names of schemas."""

from __future__ import annotations

# S608: the statements below are put together from constants of this module.
# Partitions are read through their parents. A table is not visible if an earlier schema of the search path hides
# its name, or if the role has no USAGE right on its schema.
_RELATIONS = """
SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS relkind
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname = ANY ($1::text[]))
"""
COLUMNS = f"""
WITH RECURSIVE relations AS ({_RELATIONS}), bases AS (
  SELECT t.oid AS domain, t.typbasetype AS base FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT b.domain, t.typbasetype FROM bases b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
)
SELECT r.schema, r.name, r.relkind, a.attname::text, a.attnotnull, t.oid::bigint, t.typname::text,
  t.typtype::text, t.typcategory::text, t.typnamespace = 'pg_catalog'::regnamespace,
  pg_catalog.format_type(a.atttypid, a.atttypmod), l.collname::text
FROM relations r
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN bases b ON b.domain = a.atttypid
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_type d WHERE d.oid = b.base AND d.typtype = 'd')
LEFT JOIN pg_catalog.pg_type t ON t.oid = coalesce(b.base, a.atttypid)
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND l.collname <> 'default'
  AND t.typname <> 'name'
ORDER BY r.schema, r.name, a.attnum
"""  # noqa: S608
# The types that each of these arrays and composites consists of. Domains are looked through.
PARTS = """
WITH RECURSIVE parts(whole, part) AS (
  SELECT o, o FROM unnest($1::oid[]) AS o
  UNION
  SELECT p.whole, n.part FROM parts p JOIN pg_catalog.pg_type t ON t.oid = p.part CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typtype <> 'd' AND t.typcategory = 'A'
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) AS n(part)
)
SELECT p.whole::bigint, t.typname::text, t.typtype::text, t.typcategory::text,
  t.typnamespace = 'pg_catalog'::regnamespace
FROM parts p JOIN pg_catalog.pg_type t ON t.oid = p.part WHERE t.typtype <> 'd' AND t.typcategory <> 'A'
"""
INDEXES = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, i.indisprimary,
  array_agg(a.attname::text ORDER BY k.ordinal) FILTER (WHERE k.ordinal <= i.indnkeyatts)
FROM relations r JOIN pg_catalog.pg_index i ON i.indrelid = r.oid
CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, ordinal)
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.attnum AND k.attnum > 0
WHERE i.indpred IS NULL AND i.indisvalid
GROUP BY r.schema, r.name, i.indexrelid, i.indisprimary ORDER BY r.schema, r.name, i.indexrelid
"""  # noqa: S608
FOREIGN_KEYS = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, n.nspname::text, p.relname::text,
  array_agg(a.attname::text ORDER BY k.ordinal), array_agg(b.attname::text ORDER BY k.ordinal)
FROM relations r
JOIN pg_catalog.pg_constraint o ON o.conrelid = r.oid AND o.contype = 'f' AND o.conparentid = 0
JOIN pg_catalog.pg_class p ON p.oid = o.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
CROSS JOIN LATERAL unnest(o.conkey, o.confkey) WITH ORDINALITY AS k(own, other, ordinal)
JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.own
JOIN pg_catalog.pg_attribute b ON b.attrelid = p.oid AND b.attnum = k.other
GROUP BY r.schema, r.name, o.oid, n.nspname, p.relname ORDER BY r.schema, r.name, o.oid
"""  # noqa: S608

ACCESS = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, pg_catalog.has_table_privilege(r.oid, 'SELECT')
  AND pg_catalog.has_schema_privilege(o.relnamespace, 'USAGE') AND NOT pg_catalog.row_security_active(r.oid),
  (WITH RECURSIVE above AS (
     SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = r.oid
     UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.inhparent
   ) SELECT array_agg(n.nspname::text || '.' || c.relname::text) FROM above
   JOIN pg_catalog.pg_class c ON c.oid = above.inhparent JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace)
FROM relations r JOIN pg_catalog.pg_class o ON o.oid = r.oid
"""  # noqa: S608

# A table of which no column may be read is not here: it keeps its columns, so that reading it is an error.
HIDDEN = f"""
WITH relations AS ({_RELATIONS})
SELECT r.schema, r.name, array_agg(a.attname::text ORDER BY a.attnum)
  FILTER (WHERE NOT pg_catalog.has_column_privilege(r.oid, a.attnum, 'SELECT'))
FROM relations r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE NOT pg_catalog.has_table_privilege(r.oid, 'SELECT') AND pg_catalog.has_any_column_privilege(r.oid, 'SELECT')
GROUP BY r.schema, r.name
"""  # noqa: S608

# pg_class lists the tables of schemas that the role may not use, too.
UNSEEN = """
SELECT n.nspname::text, array_agg(c.relname::text ORDER BY c.relname),
  pg_catalog.has_schema_privilege(n.oid, 'USAGE'), current_user::text, current_setting('search_path')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND n.nspname <> 'information_schema'
  AND n.nspname NOT LIKE 'pg\\_%' AND NOT (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname = ANY ($1::text[]))
GROUP BY n.oid, n.nspname ORDER BY n.nspname
"""
