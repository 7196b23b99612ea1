"""Parses the URLs and paths that name a database."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from autoexport.config.address import DatabaseURL
from autoexport.config.libpq_files import home_directory
from autoexport.config.postgres_url import is_conninfo, parse_conninfo, parse_postgres_url
from autoexport.errors import ConfigurationError, NoDatabaseNamed

_FORMS = "Give sqlite:///app.db, postgresql://user@host/name, or the path of a SQLite file."
_SCHEME = re.compile(r"(?P<dialect>[A-Za-z][A-Za-z0-9-]*)(?:\+(?P<driver>\w+))?://(?P<rest>.*)", re.DOTALL)
_FEW_SLASHES = re.compile(r"(sqlite|postgres|postgresql)(\+\w+)?:", re.IGNORECASE)


def parse_database_url(text: str) -> DatabaseURL:
    """Parse a SQLAlchemy URL of SQLite or PostgreSQL, or the bare path of a SQLite file.

    Opens no file and contacts no host. Raises `ConfigurationError`. Its text never holds a part of the URL after
    the scheme.
    """
    if not text.strip():
        raise NoDatabaseNamed("No database is given.", hint=f"{_FORMS} {_WAYS}")
    if text.strip().lower().startswith("jdbc:"):
        raise ConfigurationError(
            "A JDBC URL is not accepted as a database.",
            hint="Write it without jdbc:, with the user in front: postgresql://user@host/name or sqlite:///app.db.",
        )
    if is_conninfo(text) and not os.path.exists(text):
        return parse_conninfo(text)
    matched = _SCHEME.fullmatch(text.strip())
    if matched is None:
        return _bare_path(text)
    dialect = matched["dialect"].lower()
    if dialect == "sqlite" and "cipher" in (matched["driver"] or ""):
        raise ConfigurationError(
            "An encrypted SQLite database cannot be read.",
            hint="Export from a copy without encryption: SQLCipher makes one with sqlcipher_export().",
        )
    if dialect == "sqlite":
        return _sqlite(matched["rest"])
    if dialect in ("postgresql", "postgres"):
        return parse_postgres_url(matched["rest"])
    if dialect == "file":
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    raise ConfigurationError(f"The database URL scheme '{dialect}' is not supported.", hint=_FORMS)


def published_name(database: DatabaseURL, environ: Mapping[str, str]) -> str:
    """The name in the manifest and in logs: the base name of a SQLite file, or `host:port/name` of a server.

    `environ` holds libpq's variables for what the URL leaves out.
    """
    if database.path is not None:
        return os.fsencode(os.path.basename(os.path.abspath(database.path))).decode("utf-8", "replace")
    shown = []
    for host, port in database.hosts or ((environ.get("PGHOST", ""), None),):
        name = "localhost" if not host or host.startswith("/") else f"[{host}]" if ":" in host else host
        shown.append(f"{name}:{port}" if port not in (None, 5432) else name)
    login = database.database or environ.get("PGDATABASE") or database.user or environ.get("PGUSER", "")
    return f"{','.join(shown)}/{login}"


_WAYS = "Use --database-url, DB_EXPORT_DATABASE_URL or DATABASE_URL, or start beside a file database.db."
_PLAIN_PATH = "Give the path itself, such as /srv/app/app.db or sqlite:////srv/app/app.db."


# --- SQLite --------------------------------------------------------------------------------------


def _bare_path(text: str) -> DatabaseURL:
    if text.strip() == ":memory:":
        raise _in_memory()
    if text.lower().startswith("file:"):
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    if _FEW_SLASHES.match(text):
        scheme = text.partition(":")[0].lower()
        raise ConfigurationError(f"The database URL needs slashes behind '{scheme}:'.", hint=_FORMS)
    if re.search(r"//?[^/]*:.*@", text):
        raise ConfigurationError("The database looks like a URL without its scheme.", hint=_FORMS)
    return _sqlite_file(text)


def file_uri(path: Path) -> str:
    """The URI of a file for SQLite, for any bytes in its name (https://www.sqlite.org/uri.html).

    The caller may append `?` and parameters.
    """
    return f"file:{quote(os.fsencode(path))}"


def _sqlite(rest: str) -> DatabaseURL:
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if location and not location.startswith("/"):
        raise ConfigurationError(
            "A SQLite URL has no host, so two slashes are not enough.",
            hint="Write sqlite:///app.db for a relative path and sqlite:////srv/app.db for an absolute one.",
        )
    path = unquote(location[1:], errors="surrogateescape")
    if path in ("", ":memory:") or options.get("mode") == "memory":
        raise _in_memory()
    if path.lower().startswith("file:"):
        raise ConfigurationError("A file: URI is not accepted as a database.", hint=_PLAIN_PATH)
    return _sqlite_file(path, ignored=tuple(options))


def _sqlite_file(text: str, ignored: tuple[str, ...] = ()) -> DatabaseURL:
    if "\0" in text:
        raise ConfigurationError("The database path holds a NUL character.", hint=_PLAIN_PATH)
    path = Path(text)
    if text.startswith("~/"):
        home = home_directory(os.environ)
        if home is None:
            raise ConfigurationError("This user has no home directory for ~.", hint=_PLAIN_PATH)
        path = home / text[2:]
    return DatabaseURL("sqlite", display=str(path), path=path, ignored=ignored)


def _in_memory() -> ConfigurationError:
    return ConfigurationError(
        "An in-memory SQLite database exists only inside the connection that made it.",
        hint="Give the path of a database file.",
    )
