"""Numbers and intercepts the system calls that an export makes on its directories."""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

BY_PATH = ("open", "replace", "unlink", "link", "chmod", "mkdir")
BY_DESCRIPTOR = ("write", "fsync", "copy_file_range", "pread")
_RANDOM = re.compile(r"\b[0-9a-f]{16}\b")


@dataclass(frozen=True)
class Call:
    """A system call that is about to be made: its number from 1, its name, and the file it is about.

    `writes`: whether it changes anything on the disk.
    """

    number: int
    name: str
    file: str
    writes: bool

    def __str__(self) -> str:
        return f"{self.name}({_RANDOM.sub('#', self.file)})"


@contextmanager
def watched(
    roots: Sequence[Path], before: Callable[[Call], None], after: Callable[[Call], None] = lambda call: None
) -> Iterator[None]:
    """Call `before` ahead of each system call on a file under `roots`, in any thread.

    An error that `before` raises is raised in place of the call. `after` is called when a call has returned,
    except for a divided write. A write is done in two halves, each a call of its own. Of many reads of one file,
    only the first two count.

    Only functions of `os` are intercepted, and no call that SQLite makes. `fsync` is not carried out.
    """
    places = tuple(os.path.realpath(root) for root in roots)
    numbers, lock = count(1), threading.Lock()
    reads: Counter[str] = Counter()

    def seen(name: str, file: str, writes: bool) -> Call | None:
        if not any(file == place or file.startswith(place + "/") for place in places):
            return None
        with lock:
            if name == "pread":
                reads[file] += 1
                if reads[file] > 2:
                    return None
            call = Call(next(numbers), name, os.path.relpath(file, places[0]), writes)
        before(call)
        return call

    def by_path(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(path: Any, *arguments: Any, **named: Any) -> Any:
            target = arguments[0] if name in ("replace", "link") else path
            writes = name != "open" or bool((arguments[0] if arguments else 0) & (os.O_WRONLY | os.O_RDWR))
            call = (
                seen(name, os.path.abspath(os.fsdecode(target)), writes) if not isinstance(target, int) else None
            )
            done = real(path, *arguments, **named)
            if call is not None:
                after(call)
            return done

        return stand_in

    def by_descriptor(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*arguments: Any) -> Any:
            descriptor = arguments[1] if name == "copy_file_range" else arguments[0]
            file = os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")
            if name == "write" and len(arguments[1]) > 1 and seen(name, file, True):
                middle = len(arguments[1]) // 2
                real(descriptor, arguments[1][:middle])
                seen(name, file, True)
                return middle + int(real(descriptor, arguments[1][middle:]))
            call = seen(name, file, name != "pread")
            done = None if name == "fsync" else real(*arguments)
            if call is not None:
                after(call)
            return done

        return stand_in

    fakes = {name: by_path(name, getattr(os, name)) for name in BY_PATH}
    fakes |= {name: by_descriptor(name, getattr(os, name)) for name in BY_DESCRIPTOR}
    with ExitStack() as stack:
        for name, fake in fakes.items():
            stack.enter_context(patch.object(os, name, fake))
        yield
