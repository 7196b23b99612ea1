"""Turns the errors of the PostgreSQL driver into messages with a hint for the operator."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from autoexport.errors import AutoexportError, ConfigurationError, DatabaseAway, SourceError
from autoexport.runtime.redaction import redact

DRIVER_ERRORS: tuple[type[Exception], ...] = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""The errors that opening, reading and closing may raise; a time-out is an OSError."""

_LOST = (
    "The connection to {database} was lost: {error}.",
    "The published files are intact; the exporter tries again. Look into the server's log. "
    "A standby may need hot_standby_feedback = on.",
)
"""A standby ends the connection of an export that its recovery waits for. If that happens between two requests,
the driver drops the server's message: so this hint names the standby too."""

_UNREACHABLE = (
    "The server of {database} cannot be reached: {error}.",
    "Check host and port of the database URL, and that the server runs and listens there.",
)
_FULL = (
    "The server of {database} is out of resources: {error}.",
    "Free some on the server; the exporter tries again.",
)
_CROWDED = (
    "The server of {database} is out of resources: {error}.",
    "Close other connections, or raise the CONNECTION LIMIT of the role or the database, or max_connections. "
    "The exporter needs one connection, and tries again.",
)
_POOLED = (
    "A prepared statement got lost between this program and {database}: {error}.",
    "Behind pgbouncer in transaction mode set DB_EXPORT_PG_PREPARED_STATEMENTS=false.",
)
_CHANGING = (
    "The tables of {database} are being changed: {error}.",
    "A migration may be running; the exporter tries again.",
)

_STOOD_STILL = (
    "{database} ended an export that stood still: {error}.",
    "The export directory's disk may be too slow, or the program was suspended; the exporter tries again.",
)
_TRANSACTION_TIMEOUT = (
    "{database} ended an export at its transaction_timeout: {error}.",
    "The exporter sets it to 0 unless a pooler is in between. Set it for the role of the database URL, as a "
    "superuser: ALTER ROLE … SET transaction_timeout = 0;",
)
_SESSION_TIMEOUT = (
    "{database} ended an idle connection at its idle_session_timeout: {error}.",
    "The exporter sets it to 0 unless a pooler is in between. Set it for the role of the database URL, as a "
    "superuser: ALTER ROLE … SET idle_session_timeout = 0;",
)
_ENDED_BY_POOLER = (
    "A pooler in front of {database} ended the connection: {error}.",
    "Raise that limit of the pooler (pgbouncer: in pgbouncer.ini), or name the server itself in the URL.",
)
_NO_ROOM_IN_POOL = (
    "A pooler in front of {database} has no connection to spare: {error}.",
    "Raise its limits (pgbouncer: max_client_conn, default_pool_size); the exporter tries again.",
)

_BY_MESSAGE: tuple[tuple[str, tuple[str, str]], ...] = (
    (
        "conflict with recovery",
        (
            "The standby of {database} stopped the export: {error}.",
            "Set hot_standby_feedback = on at the standby, or raise its max_standby_streaming_delay.",
        ),
    ),
    (
        "row-level security",
        (
            "Row-level security would hide rows of {database}: {error}.",
            "The exporter never publishes a part. Give the role BYPASSRLS, or export as the owner of the tables.",
        ),
    ),
    (
        "statement timeout",
        (
            "Reading {database} took longer than the statement timeout: {error}.",
            "Raise DB_EXPORT_PG_STATEMENT_TIMEOUT (seconds), or the role's statement_timeout if that is 0.",
        ),
    ),
    # These end the connection: then the driver gives the server's words in an error of its own.
    ("due to transaction timeout", _TRANSACTION_TIMEOUT),
    ("due to idle-session timeout", _SESSION_TIMEOUT),
    ("due to idle-in-transaction timeout", _STOOD_STILL),
    # pgbouncer's own words, which have the state of a protocol violation
    ("query_wait_timeout", _NO_ROOM_IN_POOL),
    ("no more connections allowed", _NO_ROOM_IN_POOL),
    *((words, _ENDED_BY_POOLER) for words in ("client_idle_timeout", "idle transaction timeout", "query timeout")),
)

_BY_STATE: dict[str, tuple[str, str]] = {
    "28P01": ("{database} refused the login: {error}.", "Check user and password of the database URL."),
    "28000": (
        "{database} refused the login: {error}.",
        "Check user, password and sslmode of the database URL, and pg_hba.conf of the server.",
    ),
    "3D000": ("The server has no such database: {error}.", "Check the name at the end of the database URL."),
    "42501": (
        "{database} denies this role access: {error}.",
        "As the owner: GRANT SELECT ON the table, and USAGE ON its SCHEMA, TO the role of the database URL.",
    ),
    "42P01": _CHANGING,
    "42703": _CHANGING,
    "0A000": _CHANGING,
    "53300": _CROWDED,
    "55P03": (
        "A table of {database} is locked: {error}.",
        "A migration or a TRUNCATE holds the lock; the exporter tries again.",
    ),
    "57014": (
        "Reading {database} was cancelled: {error}.",
        "A user or an administrator cancelled the statement; the exporter tries again.",
    ),
    "57P03": (
        "{database} accepts no connections now: {error}.",
        "The server is starting or stopping; the exporter tries again.",
    ),
    "25P03": _STOOD_STILL,
    "25P04": _TRANSACTION_TIMEOUT,
    "57P05": _SESSION_TIMEOUT,
    "26000": _POOLED,
    "42P05": _POOLED,
    "08P01": _POOLED,
    "XX001": ("{database} is damaged: {error}.", "Restore it from a backup, or ask its administrator."),
    "XX002": ("{database} is damaged: {error}.", "Rebuild the index that is named, or ask its administrator."),
}
"""Message and hint by SQLSTATE (PostgreSQL manual, appendix A)."""

_BY_CLASS: dict[str, tuple[str, str]] = {"08": _LOST, "53": _FULL, "57": _LOST, "58": _FULL}

_OTHER = ("Reading {database} failed: {error}.", "Look into the server's log.")

_OURS = (
    "Reading {database} failed: {error}.",
    "The error is not the server's. Run the command with --log-level debug and report the traceback.",
)
_NO_SUCH_SERVER = (
    "No server of {database} is of the kind that target_session_attrs asks for.",
    "Change target_session_attrs in the database URL, or name more hosts.",
)

# asyncpg has these since 0.29 and 0.28.
_WRONG_OPTION: Any = getattr(asyncpg, "ClientConfigurationError", ())
_NONE_MATCHES: Any = getattr(asyncpg, "TargetServerAttributeNotMatched", ())


_OPTION = re.compile(
    r"\b(ssl\w+|target_session_attrs|gsslib|krbsrvname|passfile|port|host|user|password|database|options)\b"
)
_ALLOWED = {
    "target_session_attrs": "any, primary, standby, read-only, read-write, prefer-standby",
    "gsslib": "gssapi, sspi",
}
_PARAMETER_STATES = ("42704", "22023")
"""Of the server: it has no such parameter, or does not take the value."""


def explain(error: BaseException, database: str) -> AutoexportError:
    """The driver's error as a `SourceError`: a line without a password, and a hint.

    An option that the driver or the server refuses is a `ConfigurationError`, which no retry can mend.
    """
    cause = _driver_error(error)
    if isinstance(cause, _WRONG_OPTION):
        return _refused_by_driver(cause, database)
    if getattr(cause, "sqlstate", None) in _PARAMETER_STATES and "parameter" in str(cause):
        return ConfigurationError(
            f"The server of {database} refuses a parameter: {_one_line(cause)}.",
            hint="Check options and application_name of the database URL, and PGOPTIONS.",
        )
    message, hint = _message_and_hint(cause)
    values = {"database": database, "error": _one_line(cause)}
    is_away = (message, hint) in (_LOST, _UNREACHABLE, _BY_STATE["57P03"])
    kind = DatabaseAway if is_away else SourceError
    return kind(message.format(**values), hint=hint.format(**values))


def _refused_by_driver(error: BaseException, database: str) -> ConfigurationError:
    """The error for an option of the URL, or its environment variable, that the driver refuses."""
    text, _, advice = _one_line(error).partition(" HINT: ")
    found = _OPTION.search(text)
    name = found[1] if found else ""
    if "certificate file" in text:
        name = "sslrootcert" if "root" in text else "sslcert"
        advice = f"Add {name}=FILE to the database URL, or choose sslmode=require (not verified)."
    elif "<" in text:  # the driver shows a Python object in place of what is allowed
        text = f"{text.partition(' is expected')[0]} cannot be {text.rpartition('got ')[2]}"
    allowed = f"Allowed are {_ALLOWED[name]}." if name in _ALLOWED else ""
    option = f"The option {name}" if name else "An option"
    return ConfigurationError(
        f"{option} for {database} is wrong: {text}.",
        hint=advice or allowed or "Check the database URL and the PG… environment variables.",
    )


@contextlib.contextmanager
def explained(database: str) -> Iterator[None]:
    """Raise the driver's errors inside as `explain` words them."""
    try:
        yield
    except DRIVER_ERRORS as error:
        raise explain(error, database) from error


def sqlstate(error: BaseException) -> str:
    """The server's five-character error code; empty if the error is not the server's."""
    return str(getattr(_driver_error(error), "sqlstate", None) or "")


def lacks_room(error: BaseException) -> bool:
    """Whether a server or a pooler refused a connection because it has too many."""
    text = str(_driver_error(error))
    return sqlstate(error) == "53300" or "query_wait_timeout" in text or "no more connections allowed" in text


def is_late(error: BaseException) -> bool:
    """Whether no answer came in time."""
    return isinstance(_driver_error(error), TimeoutError)


def _driver_error(error: BaseException) -> BaseException:
    """The innermost error: SQLAlchemy wraps the driver's error in a DBAPI error and that in one of its own."""
    innermost = error
    while (inner := getattr(innermost, "orig", None) or _driver_cause(innermost)) is not None:
        innermost = inner
    return innermost


def _driver_cause(error: BaseException) -> BaseException | None:
    # asyncpg raises "connection lost" from the socket's error, which says less than asyncpg does.
    own = isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | OSError)
    return None if own else error.__cause__


def _message_and_hint(error: BaseException) -> tuple[str, str]:
    text = str(error)
    for part, message_and_hint in _BY_MESSAGE:
        if part in text:
            return message_and_hint
    if isinstance(error, ssl.SSLError) or "SSL upgrade" in text:
        return (
            "No secure connection to {database}: {error}.",
            "Check sslmode and sslrootcert of the database URL against the server's certificate.",
        )
    if isinstance(error, _NONE_MATCHES):
        return _NO_SUCH_SERVER
    if isinstance(error, socket.gaierror):
        return "The host of {database} is not known: {error}.", "Check the host of the database URL."
    if isinstance(error, OSError):
        return _UNREACHABLE
    state = getattr(error, "sqlstate", None) or ""
    if state:
        return _BY_STATE.get(state) or _BY_CLASS.get(state[:2], _OTHER)
    return _LOST if _cut_off(error) else _OURS


def _cut_off(error: BaseException) -> bool:
    """Whether the driver tells in its own terms that the connection is gone.

    A connection that is lost while an answer arrives leaves asyncpg's protocol in a state that it cannot leave.
    """
    text = str(error)
    closed = isinstance(error, asyncpg.InterfaceError) and "closed" in text
    lost = isinstance(error, asyncpg.InternalClientError)
    return closed or (lost and ("cannot switch to state" in text or "connection_lost" in text))


def _one_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if _cut_off(error):
        return "the server or the network closed it"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return redact(" ".join(str(text).split())).rstrip(".")
