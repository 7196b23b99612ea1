"""Draws the curve of the page: images and labelled images over time, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from autoexport.overview.history import HistoryRow
from autoexport.overview.markup import key, moment, number

_WIDTH, _HEIGHT = 1000, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 14, 8
_STEPS = (1, 2, 5)


def growth(rows: Sequence[HistoryRow]) -> str:
    """The curve of these rows, which are in the order of time; a sentence if there are less than two times."""
    rows = sorted(rows, key=lambda row: row.timestamp)
    if len(rows) < 2 or rows[0].timestamp == rows[-1].timestamp:
        return '<p class="calm">The curve begins with the second publish.</p>'
    begin, end = rows[0].timestamp, rows[-1].timestamp
    top = _rounded_up(max(1, *(max(row.images, row.labeled_images) for row in rows)))

    def x_of(time: datetime) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * ((time - begin) / (end - begin))

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * value / top

    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y_of(top * part / 4):.1f}" '
        f'y2="{y_of(top * part / 4):.1f}"/>'
        for part in range(5)
    )
    images = [(x_of(row.timestamp), y_of(row.images)) for row in rows]
    labeled = [(x_of(row.timestamp), y_of(row.labeled_images)) for row in rows]
    base = y_of(0)
    drawn = (
        f'<path class="area-images" d="{_area(images, base)}"/>'
        f'<path class="area-labeled" d="{_area(labeled, base)}"/>'
        f'<path class="line-images" d="{_steps(images)}"/><path class="line-labeled" d="{_steps(labeled)}"/>'
    )
    last = rows[-1]
    spoken = (
        f"Images grew from {number(rows[0].images)} to {number(last.images)}, "
        f"labelled images from {number(rows[0].labeled_images)} to {number(last.labeled_images)}."
    )
    scale = "".join(f"<span>{number(round(top * part / 4))}</span>" for part in range(4, -1, -1))
    middle = "" if end - begin < timedelta(hours=2) else moment(begin + (end - begin) / 2)
    return (
        f'<figure class="growth"><ul class="legend"><li>{key("images")}images <b>{number(last.images)}</b></li>'
        f"<li>{key('labeled')}labelled <b>{number(last.labeled_images)}</b></li></ul>"
        f'<div class="plot"><div class="scale" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{spoken}">'
        f"{lines}{drawn}</svg></div>"
        f'<figcaption><span>{moment(begin)}</span><span class="middle">{middle}</span><span>{moment(end)}</span>'
        "</figcaption></figure>"
    )


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """A path that keeps each value until the next one: between two publishes nothing changed."""
    (x, y), *others = points
    path = f"M{x:.1f} {y:.1f}"
    for next_x, next_y in others:
        path += f"H{next_x:.1f}" if next_y == y else f"H{next_x:.1f}V{next_y:.1f}"
        y = next_y
    return path


def _area(points: Sequence[tuple[float, float]], base: float) -> str:
    return f"{_steps(points)}V{base:.1f}H{points[0][0]:.1f}Z"


def _rounded_up(value: int) -> int:
    """The next round number, so that a quarter of it is readable; at least 4."""
    power = 1
    while True:
        for step in _STEPS:
            if step * power * 4 >= value:
                return step * power * 4
        power *= 10
