"""Sets the limits of our sessions and transactions, and lifts those that a server sets for applications."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

LOCK_TIMEOUT_S = 30.0
"""How long a snapshot keeps trying to lock its tables while a migration or a TRUNCATE holds them."""

IDLE_LIMIT_S = 900.0
"""The server ends a transaction that sends no statement for so long: a snapshot holds back the server's vacuum."""

WORK_MEMORY_KB = 32 * 1024
"""Memory for sorting in the server; larger sorts use the server's disk."""

_SINCE = {14: "idle_session_timeout", 17: "transaction_timeout"}
"""The parameters, by the major version of the server that has them first."""


def lift_limits(connection: Any, _record: object) -> None:
    """Lift them for a new connection, as a listener of SQLAlchemy's event `connect`. Raises the driver's errors.

    As a parameter of the connection it would be an error for older servers. Behind a pooler in transaction mode it
    would be set for other clients: there, only the limit of the transaction is lifted, inside it.
    """
    major = connection.run_async(_major_version)
    commands = [f"SET {name} = 0" for since, name in _SINCE.items() if major >= since]
    if commands:
        connection.run_async(methodcaller("execute", "; ".join(commands)))


async def _major_version(driver: Any) -> int:
    return int(driver.get_server_version().major)


def transaction_parameters(major: int, statement_timeout_s: float) -> dict[str, str]:
    """The parameters to set inside a transaction: at a session's start pgbouncer refuses most of them.

    `major` is the version of the server.
    """
    return {
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "row_security": "off",  # fail rather than export only some of the rows
        "jit": "off",
        "work_mem": f"{WORK_MEMORY_KB}kB",
        "idle_in_transaction_session_timeout": f"{round(IDLE_LIMIT_S * 1000)}ms",
        **({"transaction_timeout": "0"} if major >= 17 else {}),
        "lock_timeout": f"{round(LOCK_TIMEOUT_S * 1000)}ms",
        **({"statement_timeout": f"{max(1, round(statement_timeout_s * 1000))}ms"} if statement_timeout_s else {}),
    }
