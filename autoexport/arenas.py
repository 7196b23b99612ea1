"""One memory arena for all threads: what a process of ours does to stay small; never inside somebody else's."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8  # <malloc.h> of glibc; mallopt(3)


def share_one_arena() -> None:
    """Have glibc serve all threads from one arena; elsewhere, do nothing.

    By default every thread gets an arena of its own, and what a block leaves free in one is of no
    use to the next thread: measured over twelve exports of 200,000 images, 110 MB resident became 75.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
