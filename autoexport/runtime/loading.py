"""Loads modules in a thread, beside other work."""

from __future__ import annotations

import threading
from importlib import import_module

_one_at_a_time = threading.Lock()


def load(*names: str) -> None:
    """Import these modules; blocking.

    One thread at a time: where two import modules that import one another, Python lets one of them go on with a
    module that is only half loaded (`importlib._bootstrap`, deadlock avoidance).
    """
    with _one_at_a_time:
        for name in names:
            import_module(name)
