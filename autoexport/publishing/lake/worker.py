"""Runs in the process that works on a lake: reads one request, and answers in lines.

It loads neither SQL nor settings. It ends when its parent does, so that no orphan commits later.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import threading
import time

from autoexport.errors import AutoexportError, ConfigurationError
from autoexport.publishing.lake.requests import Answer, Request
from autoexport.runtime.tuning import return_memory


def main() -> None:
    """Answer the request of standard input on standard output."""
    # A signal that ends an export politely may reach the whole process group: the parent decides about the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()
    return_memory()
    request = Request.read(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _send(answer_to(request))


def answer_to(request: Request) -> Answer:
    """The last answer to a request; those before it are sent."""
    try:
        from autoexport.publishing.lake.work import work

        answer = work(request, _send)
    except AutoexportError as error:
        return Answer(
            done=True, error=str(error), hint=error.hint, wrong_settings=isinstance(error, ConfigurationError)
        )
    except Exception as error:  # noqa: BLE001 - the parent reports every error
        return Answer(done=True, error=f"The lake failed: {type(error).__name__}: {error}", hint=_REPORT)
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Answer(
        done=True, reports=answer.reports, differences=answer.differences, peak_bytes=peak_bytes,
        cpu_s=time.process_time(), task=answer.task,
    )  # fmt: skip


_REPORT = "Please report this."


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(0)  # A commit is whole or not there; a file that no commit names is removed later.


def _send(answer: Answer) -> None:
    try:
        sys.stdout.buffer.write(answer.encoded())
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(0)
