"""Modules that load beside other work: what an export needs after the copy of its database."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from autoexport.runtime.loading import load


def _answer(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.strip()


def test_a_copy_begins_before_sqlalchemy_is_loaded() -> None:
    """It takes as long to load as 400 MB to copy."""
    modules = "autoexport.commands.export, autoexport.sources.sqlite.source, autoexport.publishing.directory"
    assert _answer(f"import sys, {modules}; print('sqlalchemy' in sys.modules)") == "False"


def test_an_embedded_exporter_loads_sqlalchemy_with_its_own_modules() -> None:
    """Later, a thread would load it while the program may import it, too."""
    assert _answer("import sys; from autoexport import Exporter; print('sqlalchemy' in sys.modules)") == "True"


def test_modules_that_import_one_another_load_in_several_threads() -> None:
    """Without turns, this failed in every second process: a thread got a half loaded `sqlalchemy`."""
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from autoexport.runtime.loading import load
sys.setswitchinterval(1e-5)
names = ["autoexport.pipeline.derivation", "autoexport.sources.sqlite.reading", "sqlalchemy.ext.asyncio"]
with ThreadPoolExecutor(3) as pool:
    list(pool.map(load, names))
"""
    for _ in range(4):
        _answer(code)


def test_a_module_that_fails_does_not_keep_others_from_loading() -> None:
    with pytest.raises(ModuleNotFoundError):
        load("json", "autoexport.no_such_module")
    thread = threading.Thread(target=load, args=("json",))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
