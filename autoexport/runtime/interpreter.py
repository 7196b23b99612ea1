"""Names the commands that start this interpreter again, for the processes of this program."""

from __future__ import annotations

import os
import re
import sys

_PYTHON = re.compile(r"(python|pypy)[\d.]*[a-z]*")


def is_interpreter() -> bool:
    """Whether `sys.executable` can be started as Python: every process of ours is started only if it can.

    In a frozen program, and in an application that embeds Python, it would start that program again.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        return False
    return _PYTHON.fullmatch(os.path.basename(sys.executable)) is not None


def program_of(module: str, *, without_rich: bool = False) -> str:
    """The code of a process that runs `main` of a module.

    Started by `command_of`, it finds its modules where this process does. `without_rich` is for modules that log.
    """
    lean = "from autoexport.runtime.tuning import load_without_rich; load_without_rich(); " if without_rich else ""
    # Loaded modules stay: searching them for garbage takes a fifth of the start.
    loading = f"gc.disable(); {lean}from {module} import main; gc.enable()"
    return f"import gc, sys; sys.path[:] = sys.argv[1:]; {loading}; main()"


def command_of(code: str) -> list[str]:
    """The command that runs such code; `-I` keeps the environment out.

    Raises `FileNotFoundError` if there is no interpreter to start.
    """
    return [_interpreter(), "-I", "-c", code, *sys.path]


def bare_command(*arguments: str) -> list[str]:
    """A command that loads no package at all. Raises `FileNotFoundError` as well."""
    return [_interpreter(), "-I", "-S", *arguments]


def _interpreter() -> str:
    if not is_interpreter():
        raise FileNotFoundError("no Python interpreter that can be started")
    return sys.executable
