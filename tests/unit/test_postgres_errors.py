"""Errors of the PostgreSQL driver become a line and a hint, without a password."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from autoexport.errors import ConfigurationError, DatabaseAway, SourceError
from autoexport.sources.postgres.errors import explain, explained, sqlstate

DATABASE = "server/name"


def server_error(state: str, text: str) -> asyncpg.PostgresError:
    """An error as the driver makes it of the server's message."""
    made = asyncpg.PostgresError.new({"C": state, "M": text, "S": "ERROR"})
    assert isinstance(made, asyncpg.PostgresError)
    return made


def wrapped(error: Exception) -> DBAPIError:
    """An error as SQLAlchemy passes it on: in one of its DBAPI's, in one of its own."""
    inner = Exception("<class 'driver'>: text")
    inner.__cause__ = error
    return DBAPIError("SELECT secret", {"password": "secret"}, inner)


@pytest.mark.parametrize(
    ("state", "text", "hint"),
    [
        ("42501", "permission denied for table annotations", "GRANT SELECT"),
        ("28P01", 'password authentication failed for user "u"', "password"),
        ("3D000", 'database "d" does not exist', "database URL"),
        ("53300", "too many clients already", "max_connections"),
        ("57P01", "terminating connection due to administrator command", "tries again"),
        ("57P03", "the database system is starting up", "tries again"),
        ("57014", "canceling statement due to statement timeout", "DB_EXPORT_PG_STATEMENT_TIMEOUT"),
        ("57014", "canceling statement due to user request", "tries again"),
        ("55P03", "canceling statement due to lock timeout", "migration"),
        ("40001", "canceling statement due to conflict with recovery", "hot_standby_feedback"),
        ("26000", 'prepared statement "x" does not exist', "DB_EXPORT_PG_PREPARED_STATEMENTS"),
        ("XX001", "invalid page in block 0", "backup"),
        ("22012", "division by zero", "log"),
        ("57P05", "terminating connection due to idle-session timeout", "idle_session_timeout = 0"),
        ("25P04", "terminating connection due to transaction timeout", "transaction_timeout = 0"),
        ("25P03", "terminating connection due to idle-in-transaction timeout", "disk"),
        ("08P01", "query_wait_timeout", "default_pool_size"),
        ("08P01", "no more connections allowed (max_client_conn)", "max_client_conn"),
        ("08P01", "client_idle_timeout", "pgbouncer.ini"),
    ],
)
def test_server_errors(state: str, text: str, hint: str) -> None:
    """The server's words are kept, the remedy fits, and wrapping changes nothing."""
    error = server_error(state, text)
    explanation = explain(error, DATABASE)
    assert text in str(explanation)
    assert hint in explanation.hint
    again = explain(wrapped(error), DATABASE)
    assert (str(again), again.hint) == (str(explanation), explanation.hint)
    assert sqlstate(wrapped(error)) == state


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        OSError("Multiple exceptions: [Errno 111] a, [Errno 111] b"),
    ],
)
def test_lost_connections(error: Exception) -> None:
    """Without a word of the server it is still said what is wrong and what to do."""
    explanation = explain(error, DATABASE)
    assert DATABASE in str(explanation)
    assert explanation.hint
    assert str(explanation).endswith(".")
    assert ": ." not in str(explanation)


@pytest.mark.parametrize("limit", ["idle-session timeout", "transaction timeout"])
def test_a_limit_that_ends_the_connection(limit: str) -> None:
    """The driver puts the server's last words into an error about the connection: the parameter is still named."""
    words = f"connection was closed in the middle of operation: terminating connection due to {limit}"
    explanation = explain(asyncpg.ConnectionDoesNotExistError(words), DATABASE)
    assert limit.replace(" ", "_").replace("-", "_") in explanation.hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (server_error("42704", 'unrecognized configuration parameter "foo"'), "PGOPTIONS"),
        (server_error("22023", 'invalid value for parameter "work_mem": "x"'), "PGOPTIONS"),
        (asyncpg.ClientConfigurationError("could not match 2 port numbers to 3 hosts"), "PG…"),
    ],
)
def test_refused_options(error: Exception, words: str) -> None:
    """An option that cannot be used is a mistake of the operator, not a failure to try again."""
    explanation = explain(wrapped(error), DATABASE)
    assert isinstance(explanation, ConfigurationError)
    assert words in explanation.hint


def test_an_error_of_our_own() -> None:
    """The server's log says nothing about what the driver refuses."""
    explanation = explain(asyncpg.InterfaceError("the server expects 1 argument, 2 were passed"), DATABASE)
    assert "log-level debug" in explanation.hint
    assert "server's log" not in explanation.hint


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InternalClientError("unexpected connection_lost() call"),
        asyncpg.InterfaceError("cannot call PreparedStatement.fetch(): the underlying connection is closed"),
    ],
)
def test_terms_of_the_driver_are_not_shown(error: Exception) -> None:
    """A connection that is lost at an unusual moment is told as any other, and is the same trouble."""
    for explanation in (explain(error, DATABASE), explain(wrapped(error), DATABASE)):
        assert str(explanation) == f"The connection to {DATABASE} was lost: the server or the network closed it."
        assert isinstance(explanation, DatabaseAway)


def test_no_password() -> None:
    """A password that a message repeats is hidden, and lines are joined."""
    text = "could not connect to postgresql://u:hunter2@h/d\npassword=hunter2"
    explanation = explain(server_error("08006", text), DATABASE)
    assert "hunter2" not in str(explanation)
    assert "\n" not in str(explanation)


def test_explained() -> None:
    """An error of the driver becomes a `SourceError` with its cause; other errors stay as they are."""
    error = server_error("42501", "no")
    with pytest.raises(SourceError) as raised, explained(DATABASE):
        raise error
    assert raised.value.__cause__ is error
    with pytest.raises(ZeroDivisionError), explained(DATABASE):
        raise ZeroDivisionError
