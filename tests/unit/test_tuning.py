"""SQLite works without the mutexes of its connections, in a process that asks for that, and there alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY, program_environment

_MUTEX = """
import ctypes, _sqlite3

def has_mutex():
    library = ctypes.CDLL(_sqlite3.__file__)
    library.sqlite3_db_mutex.restype, library.sqlite3_db_mutex.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    connection = ctypes.c_void_p()
    assert library.sqlite3_open(b":memory:", ctypes.byref(connection)) == 0
    try:
        return library.sqlite3_db_mutex(connection) is not None
    finally:
        assert library.sqlite3_close(connection) == 0
"""


def answer(program: str) -> str:
    """What a program prints, in a process of its own: the setting is one of the process."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=REPOSITORY,
        env=program_environment(),
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_a_connection_has_no_mutex() -> None:
    pytest.importorskip("_sqlite3")
    usual = "print(has_mutex())"
    unlocked = "from autoexport.runtime.tuning import unlock_sqlite; unlock_sqlite(); print(has_mutex())"
    assert (answer(_MUTEX + usual), answer(_MUTEX + unlocked)) == ("True", "False")


def test_rows_are_as_before() -> None:
    """Also those of several connections, each used by a thread of its own at the same time."""
    program = """
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from autoexport.runtime.tuning import unlock_sqlite

def read(number):
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE rows (number, text)")
        numbers = range(number, 20_000, 7)
        connection.executemany("INSERT INTO rows VALUES (?, ?)", ((n, str(n) * 20) for n in numbers))
        found = connection.execute("SELECT number, text FROM rows ORDER BY text, number").fetchall()
        return found == sorted(((n, str(n) * 20) for n in numbers), key=lambda row: (row[1], row[0]))

unlock_sqlite()
with ThreadPoolExecutor(4) as pool:
    print(list(pool.map(read, range(7))))
"""
    assert answer(program) == str([True] * 7)


def test_sqlite_is_not_loaded_for_it() -> None:
    unlocked = "import sys; from autoexport.runtime.tuning import unlock_sqlite; unlock_sqlite(); "
    assert answer(unlocked + "print('_sqlite3' in sys.modules)") == "False"
