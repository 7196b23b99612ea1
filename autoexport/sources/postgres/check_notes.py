"""What `check` says about a PostgreSQL database."""

from __future__ import annotations

_ABOUT = """
SELECT pg_catalog.current_setting('server_version'),
  pg_catalog.pg_database_size(pg_catalog.current_database()),
  pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('hot_standby_feedback', true)
"""

_UNREADABLE = """
SELECT c.oid::regclass::text FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_catalog.pg_table_is_visible(c.oid) AND NOT c.relispartition
  AND NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') AND c.relnamespace <> 'pg_catalog'::regnamespace
ORDER BY 1
"""
