"""Lifts the time limits that a server sets for the sessions and transactions of applications."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

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
