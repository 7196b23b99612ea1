"""Writes pieces of HTML: hostile texts escaped, numbers, times, bars."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime

LONGEST_NAME = 120
"""Longer names are cut in the page: a name may be a whole document."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_SWATCH = '<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">'
_COLOR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")


def text(value: str) -> str:
    """A text as HTML: on one line, cut if it is long. It stands in elements and in attributes with quotes."""
    if len(value) > LONGEST_NAME:
        value = value[: LONGEST_NAME - 1] + "…"
    return html.escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", value))


def name(value: str) -> str:
    """A name as HTML. Text from right to left does not turn what follows it."""
    return f"<bdi>{text(value)}</bdi>" if value.strip() else '<span class="none">no name</span>'


def number(value: int) -> str:
    """A number with separators between thousands."""
    return f"{value:,}"


def percent(part: int, whole: int) -> str:
    """A share as a percentage. It is 100 % only if it is the whole, and 0 % only if it is nothing."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "&lt;0.1 %"
    return f"{min(share, 99.9):.1f} %" if part < whole else "100 %"


def moment(time: datetime) -> str:
    """A time in UTC, of which the script of the page computes the age."""
    utc = time.astimezone(UTC)
    return f'<time datetime="{utc:%Y-%m-%dT%H:%M:%SZ}">{utc:%Y-%m-%d %H:%M} UTC</time>'


def size(value: int) -> str:
    """A number of bytes in a unit that fits."""
    amount = float(value)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def bar(parts: Sequence[tuple[str, int]], whole: int) -> str:
    """A bar of parts that follow one another, each of a class of the style sheet. The numbers stand beside it."""
    begin, drawn = 0.0, ""
    for kind, part in parts:
        width = 100 * part / whole if whole else 0.0
        if part:
            drawn += f'<rect class="{kind}" x="{begin:.4g}" width="{width:.4g}" height="1"/>'
        begin += width
    return f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'


def swatch(color: str | None) -> str:
    """A square in the colour of a label; nothing for what is no colour."""
    if color is None or not _COLOR.fullmatch(color):
        return ""
    return f'{_SWATCH}<rect width="1" height="1" fill="{color}"/></svg>'


def key(kind: str) -> str:
    """A square in the colour of a class of the style sheet."""
    return f'{_SWATCH}<rect class="{kind}" width="1" height="1"/></svg>'


def cell(value: int) -> str:
    """A cell with a number, by which the script sorts."""
    return f'<td class="n" data-v="{value}">{value:,}</td>'


def share_cell(part: int, whole: int) -> str:
    """A cell with a share."""
    return f'<td class="n" data-v="{part / whole if whole else -1:.4f}">{percent(part, whole)}</td>'


def table(kind: str, caption: str, heads: Sequence[tuple[str, str]], rows: Sequence[str], more: str = "") -> str:
    """A table that the script makes sortable. Each head is a word and a class: `n` for numbers, `x` for bars."""
    cells = "".join(
        f'<th scope="col" class="{style}">{head}</th>' if style else f'<th scope="col">{head}</th>'
        for head, style in heads
    )
    below = f'<p class="more">{more}</p>' if more else ""
    return (
        f'<table class="{kind}"><caption>{caption}</caption><thead><tr>{cells}</tr></thead>'
        f"<tbody>\n" + "\n".join(f"<tr>{row}</tr>" for row in rows) + f"\n</tbody></table>{below}"
    )
