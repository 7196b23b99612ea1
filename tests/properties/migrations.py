"""Operations on the tables of a database: migrations and upkeep (see `tests.properties.histories`)."""

from __future__ import annotations

from tests.properties.histories import History, on_many, postgres_alone, postgres_only, sqlite_alone

# --- declarations ---------------------------------------------------------------------------------


@on_many
def swap_columns(h: History, a: int, b: int) -> None:
    """Two columns exchange their names: every row changes and no row is touched."""
    table, one, other = (("annotations", "x_min", "y_min"), ("images", "filename", "file_path"))[b % 2]
    for old, new in ((one, "swapping"), (other, one), ("swapping", other)):
        h.db.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")


@on_many
def swap_tables(h: History, a: int, b: int) -> None:
    """A table is copied, perhaps with changes, dropped, and the copy gets its name, as in Alembic's batch mode."""
    table = ("annotations", "images", "datasets")[b % 3]
    changed = {
        "annotations": "confidence = 0.125",
        "images": "split_section = 'test'",
        "datasets": "name = 'same'",
    }
    h.create_like(table, "batch")
    h.db.execute(f"INSERT INTO batch SELECT * FROM {table}")
    if a % 2:
        h.db.execute(f"UPDATE batch SET {changed[table]}")
    h.db.execute(f"DROP TABLE {table}" + ("" if h.sqlite else " CASCADE"))
    h.db.execute(f"ALTER TABLE batch RENAME TO {table}")


@on_many
def exchange_tables(h: History, a: int, b: int) -> None:
    """A table and another one with fewer rows exchange their names: every row changes and none is touched."""
    if not h.columns_now("spare_annotations"):
        h.create_like("annotations", "spare_annotations")
        h.db.execute(f"INSERT INTO spare_annotations SELECT * FROM annotations LIMIT {a % 40}")
    for old, new in (
        ("annotations", "third"),
        ("spare_annotations", "annotations"),
        ("third", "spare_annotations"),
    ):
        h.db.execute(f"ALTER TABLE {old} RENAME TO {new}")


@on_many
def recreate_table(h: History, a: int, b: int) -> None:
    """A table is dropped and created again by the same statement, with all, some or none of its rows."""
    table = ("annotations", "images", "labels")[b % 3]
    h.create_like(table, "batch")
    rows = h.db.execute(f"SELECT * FROM {table}")
    h.db.execute(f"DROP TABLE {table}" + ("" if h.sqlite else " CASCADE"))
    h.db.execute(f"ALTER TABLE batch RENAME TO {table}")
    for row in rows[: (0, 10, len(rows))[a % 3]]:
        h.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)


@on_many
def index(h: History, a: int, b: int) -> None:
    """An index is created and takes pages, or is dropped and frees them."""
    table, column = (("annotations", "image_id"), ("images", "dataset_id"), ("annotations", "x_min"))[b % 3]
    name = f"ix_{table}_{column}"
    h.db.execute(
        f"DROP INDEX IF EXISTS {name}" if a % 2 else f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({column})"
    )


@on_many
def add_column(h: History, a: int, b: int) -> None:
    """A column is added, with the same value in every row: one that is mapped, or one that is not."""
    added = (("images", "format"), ("annotations", "note"), ("images", "note"), ("annotations", "model_id"))
    table, column = added[b % 4]
    if column not in h.columns_now(table):
        h.db.execute(f"ALTER TABLE {table} ADD COLUMN {column} TEXT DEFAULT 'd{a % 3}'")


# --- upkeep ---------------------------------------------------------------------------------------


@sqlite_alone
def tidy(h: History, a: int, b: int) -> None:
    """Pages move and no row changes."""
    h.db.execute(("VACUUM", "PRAGMA incremental_vacuum(3)", "PRAGMA wal_checkpoint(TRUNCATE)", "ANALYZE")[a % 4])


@sqlite_alone
def secure_delete(h: History, a: int, b: int) -> None:
    """SQLite begins or ceases to overwrite deleted data."""
    h.db.execute(f"PRAGMA secure_delete = {('ON', 'OFF', 'FAST')[a % 3]}")


@sqlite_alone
def change_journal(h: History, a: int, b: int) -> None:
    """The journal mode changes."""
    h.db.execute(f"PRAGMA journal_mode = {('DELETE', 'TRUNCATE', 'PERSIST', 'WAL')[a % 4]}")


@sqlite_alone
def change_layout(h: History, a: int, b: int) -> None:
    """VACUUM gives the database another page size or another kind of auto_vacuum."""
    h.db.execute("PRAGMA journal_mode = DELETE")
    h.db.execute(f"PRAGMA page_size = {512 << a % 8}")
    h.db.execute(f"PRAGMA auto_vacuum = {('NONE', 'FULL', 'INCREMENTAL')[b % 3]}")
    h.db.execute("VACUUM")


@postgres_alone
def rewrite(h: History, a: int, b: int) -> None:
    """Rows are moved or frozen, and no row changes."""
    table = ("annotations", "images", "datasets")[b % 3]
    commands = ("VACUUM FULL {0}", "VACUUM {0}", "VACUUM FREEZE {0}", "CLUSTER {0} USING {0}_pkey", "ANALYZE {0}")
    h.db.execute(commands[a % 5].format(table))


@postgres_only
def truncate(h: History, a: int, b: int) -> None:
    """A table is emptied at once; some of its rows come back."""
    table = ("annotations", "images", "labels")[b % 3]
    rows = h.db.execute(f"SELECT * FROM {table}")
    h.db.execute(f"TRUNCATE {table} CASCADE" if a % 2 else f"TRUNCATE {table}")
    for row in rows[: (0, 10, len(rows))[a % 3]]:
        h.db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", *row)


@postgres_only
def rewrite_column(h: History, a: int, b: int) -> None:
    """A column gets another type, and every row is rewritten."""
    kind = ("real", "double precision")[a % 2]
    h.db.execute(f"ALTER TABLE annotations ALTER COLUMN confidence TYPE {kind}")


@postgres_only
def lock_rows(h: History, a: int, b: int) -> None:
    """Rows are locked, which leaves marks on them and changes nothing."""
    h.db.execute("SELECT id FROM images WHERE id = ? FOR UPDATE", h.some("images", a))
    h.db.execute("SELECT id FROM annotations WHERE id = ? FOR KEY SHARE", h.some("annotations", b))
