"""Words the first part of the page: how far the labelling is."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import repeat

from autoexport.model.blocks import Counts
from autoexport.overview.facts import PageFacts
from autoexport.overview.history import History, HistoryRow
from autoexport.overview.markup import bar, cell, moment, name, number, percent, share_cell, table
from autoexport.overview.progress_log import ProgressLog
from autoexport.overview.survey import DatasetRow, ProjectRow, Survey
from autoexport.runtime.wording import counted


def progress(facts: PageFacts, found: Survey, history: History, before: ProgressLog) -> str:
    """How far the labelling is: in all, and by project and dataset."""
    own = facts.counts
    tiles = (
        ("Images", own.images), ("Labelled", own.labeled), ("Verified", own.verified),
        ("Annotations", own.annotations), ("Projects", found.project_count), ("Datasets", found.dataset_count),
        ("Labels", facts.labels),
    )  # fmt: skip
    hero = (
        f'<div class="hero"><p class="big">{percent(own.labeled, own.images)}</p><div class="of">'
        f"<p><b>{number(own.labeled)}</b> of <b>{number(own.images)}</b> "
        f"{'image' if own.images == 1 else 'images'} {_is(own.labeled)} labelled, "
        f"{number(own.verified)} {_is(own.verified)} verified.</p>"
        + bar(_labeled_parts(own.labeled, own.verified), own.images)
        + _changes(facts, history)
        + "</div></div>"
    )
    figures = "".join(f"<div><dt>{word}</dt><dd>{number(value)}</dd></div>" for word, value in tiles)
    gains = _Gains(facts.timestamp, found, before)
    return f'{hero}<dl class="tiles">{figures}</dl>' + _project_table(found, gains) + _dataset_table(found, gains)


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _labeled_parts(labeled: int, verified: int) -> list[tuple[str, int]]:
    both = min(labeled, verified)
    return [("verified", both), ("labeled", labeled - both)]


def _changes(facts: PageFacts, history: History) -> str:
    """The change since yesterday and since last week, or since the first export if that is younger."""
    items = []
    first = history.first()
    for word, age in (("yesterday", timedelta(days=1)), ("last week", timedelta(days=7))):
        before = history.before(facts.timestamp - age)
        if before is not None:
            items.append(_change(f"since {word}", facts.counts, before))
        elif first is not None and first.generation != facts.generation:
            items.append(_change(f"since the first record, {moment(first.timestamp)}", facts.counts, first))
            break
    return f'<ul class="changes">{"".join(items)}</ul>' if items else ""


def _change(since: str, now: Counts, before: HistoryRow) -> str:
    labeled = now.labeled - before.labeled_images
    images = now.images - before.images
    kind = "up" if labeled > 0 else "down" if labeled < 0 else "same"
    return (
        f'<li><b class="{kind}">{_signed(labeled)}</b> labelled, '
        f'{_signed(images)} {"image" if abs(images) == 1 else "images"} <span class="since">{since}</span></li>'
    )


def _signed(value: int) -> str:
    return f"+{value:,}" if value > 0 else f"−{-value:,}" if value < 0 else "±0"


class _Gains:
    """The columns of labelled images that came since yesterday and last week, as far as that is known."""

    def __init__(self, now: datetime, found: Survey, before: ProgressLog) -> None:
        spans = (("Last day", timedelta(days=1)), ("Last week", timedelta(days=7)))
        known = [(head, now - age) for head, age in spans if before.covers(now - age)]
        self.heads = tuple((head, "n") for head, _ in known)
        self._times = [time for _, time in known]
        self._before = before
        # A row that was not there is new, if all rows are recorded. Else it may have been among the smaller ones.
        all_shown = found.project_count == len(found.projects) and found.dataset_count == len(found.datasets)
        self._of_new = 0 if all_shown else None

    def cells(self, row: ProjectRow | DatasetRow) -> str:
        """The cells of a row."""
        return "".join(map(self._cell, repeat(row), self._times))

    def _cell(self, row: ProjectRow | DatasetRow, time: datetime) -> str:
        before = self._before.labeled_at(row.key, time)
        before = self._of_new if before is None else before
        if before is None:
            return '<td class="n" data-v="0">–</td>'
        gain = row.labeled - before
        kind = "up" if gain > 0 else "down" if gain < 0 else "since"
        return f'<td class="n" data-v="{gain}"><span class="{kind}">{_signed(gain) if gain else 0}</span></td>'


_LABELED_HEAD = (("Labelled", "n"),)
_PROGRESS_HEADS = (("Images", "n"), ("Done", "n"), ("Progress", "x"), ("Verified", "n"))


def _progress_cells(row: ProjectRow | DatasetRow, gains: _Gains) -> str:
    return (
        cell(row.labeled) + gains.cells(row) + cell(row.images) + share_cell(row.labeled, row.images)
        + f'<td class="x">{bar(_labeled_parts(row.labeled, row.verified), row.images)}</td>' + cell(row.verified)
    )  # fmt: skip


def _project_table(found: Survey, gains: _Gains) -> str:
    if found.project_count < 2:
        return ""
    rows = [
        f'<th scope="row">{name(row.name)}</th>'
        + _progress_cells(row, gains)
        + cell(row.annotations)
        + cell(row.datasets)
        for row in found.projects
    ]
    heads = (
        ("Project", ""), *_LABELED_HEAD, *gains.heads, *_PROGRESS_HEADS, ("Annotations", "n"), ("Datasets", "n")
    )  # fmt: skip
    return table("progress projects", "Projects", heads, rows, more(found.project_count - len(rows), "project"))


def _dataset_table(found: Survey, gains: _Gains) -> str:
    if not found.datasets:
        return '<p class="more">There are no datasets.</p>'
    several = found.project_count > 1
    rows = [
        f'<th scope="row">{name(row.name)}</th>'
        + (f"<td>{name(row.project)}</td>" if several else "")
        + _progress_cells(row, gains)
        + cell(row.annotations)
        for row in found.datasets
    ]
    project = (("Project", ""),) if several else ()
    heads = (("Dataset", ""), *project, *_LABELED_HEAD, *gains.heads, *_PROGRESS_HEADS, ("Annotations", "n"))
    kind = "progress datasets" if several else "progress alone"
    return table(kind, "Datasets", heads, rows, more(found.dataset_count - len(rows), "dataset"))


def more(others: int, noun: str) -> str:
    """The remark below a table that has only the largest rows."""
    if others <= 0:
        return ""
    fewer = "has fewer images" if others == 1 else "have fewer images"
    return f"and {counted(others, f'more {noun}')}, which {fewer}. The CSV files list all."
