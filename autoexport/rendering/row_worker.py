"""Runs in the worker process that writes row groups: reads one message, writes the groups, and answers.

It loads neither SQL nor settings.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from typing import Any

from autoexport.formats import format_of
from autoexport.formats.contract import EncoderFormat, RowFormat
from autoexport.model import packing
from autoexport.rendering.row_groups import RowFiles, write_groups
from autoexport.runtime.tuning import return_memory


def main() -> None:
    """Answer the message of standard input on standard output."""
    # A signal that ends an export politely may reach the whole process group: the parent decides about the end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.disable()  # Rows and cells have no cycles.
    return_memory()
    try:
        answer = _answer(packing.unpack(sys.stdin.buffer.read()))
    except EOFError:
        answer = ("short",)
    except OSError as error:
        answer = ("os error", error.errno)
    except Exception as error:  # noqa: BLE001 - the parent reports every error
        answer = ("error", f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(packing.pack(answer))


def _answer(message: tuple[Any, ...]) -> tuple[Any, ...]:
    module, file_name, options, ranges, descriptors, encoder = message
    output = format_of(module, file_name, options)
    assert isinstance(output, RowFormat)  # noqa: S101 - the parent asks for no other
    pieces = write_groups(output, ranges, RowFiles(*descriptors))
    if isinstance(output, EncoderFormat) and output.encoder() != encoder:  # asked when it is loaded
        return ("other encoder",)
    return "done", pieces, time.process_time()
