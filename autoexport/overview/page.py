"""Writes index.html: one self-contained file that shows how the labelling stands."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import resources
from urllib.parse import quote

from autoexport.overview.chart import growth
from autoexport.overview.facts import PageFacts
from autoexport.overview.history import History
from autoexport.overview.markup import (
    bar,
    cell,
    key,
    moment,
    name,
    number,
    percent,
    share_cell,
    size,
    swatch,
    table,
    text,
)
from autoexport.overview.progress import more, progress
from autoexport.overview.progress_log import ProgressLog
from autoexport.overview.survey import MOST_LABELS, RARE, ClassRow, DatasetRow, Survey
from autoexport.runtime.wording import counted, singular

PAGE_NAME = "index.html"
MARK = b'<meta name="generator" content="autoexport">'
"""In the head of each page."""

_CHART_ROWS = 400
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_PARENTS = {"datasets": "a project", "images": "a dataset", "annotations": "an image"}
_SPLIT_KINDS = ("train", "val", "test", "rest", "rest")


def page(facts: PageFacts, found: Survey, history: History, before: ProgressLog) -> bytes:
    """The bytes of the page. Without rows in the history, it shows no change and no curve.

    `before` tells the progress of each project and dataset; without it, the tables show no change.
    """
    style, script = _part("page.css"), _part("page.js")
    parts = {
        "style": style,
        "script": script,
        "policy": _policy(style, script),
        "database": text(facts.database),
        "generation": number(facts.generation),
        "number": str(facts.generation),
        "taken": moment(facts.timestamp),
        "progress": progress(facts, found, history, before),
        "classes": _classes(found),
        "splits": _splits(facts, found),
        "problems": _problems(facts, found),
        "fresh": _fresh(facts),
        "growth": growth(history.rows(_CHART_ROWS)),
        "files": _files(facts),
    }
    return _PLACE.sub(lambda place: parts[place[1]], _part("page.html")).encode("utf-8", "replace")


@cache
def _part(file_name: str) -> str:
    return resources.files(__package__).joinpath(file_name).read_text("utf-8").rstrip("\n")


@cache
def _policy(style: str, script: str) -> str:
    """The Content-Security-Policy of the page: nothing but this style, this script and the manifest."""
    sums = [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{sums[0]}'; script-src 'sha256-{sums[1]}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
    )


# --- classes -------------------------------------------------------------------------------------


def _classes(found: Survey) -> str:
    texts = ""
    if found.without_classes:
        projects = counted(found.without_classes, "project")
        texts = (
            f'<p class="more">Labels of {projects} with more than {number(MOST_LABELS)} each are not shown.</p>'
        )
    if not found.used_count:
        return texts or '<p class="calm">No annotation has a label so far.</p>'
    shown = [*found.frequent, *found.rarest]
    between = found.used_count - len(shown)
    most = max(row.annotations for row in shown)
    total = sum(row.annotations for row in shown)
    several = found.project_count > 1
    rows = [_class_row(row, most, total, several) for row in found.frequent]
    if between > 0:
        columns = 5 + several
        others = counted(between, "more class is", "more classes are")
        rows.append(f'<td class="gap" colspan="{columns}">{others} between these</td>')
    rows += [_class_row(row, most, total, several) for row in found.rarest]
    summary = (
        f'<p class="lead"><b>{counted(found.used_count, "class", "classes")}</b> in use'
        + (f", <b>{number(found.rare_count)}</b> of them rare" if found.rare_count else ", none of them rare")
        + (f"; {counted(found.unused_count, 'label')} without annotations" if found.unused_count else "")
        + f". A class is rare if it has less than a {_fraction(RARE)} of its project's average.</p>"
    )
    if found.classes_of + found.without_classes < found.project_count:
        largest = "largest project" if found.classes_of == 1 else f"{number(found.classes_of)} largest projects"
        summary += f'<p class="more">Classes of the {largest}.</p>'
    project = (("Project", ""),) if several else ()
    share = "Share" if between <= 0 else "Share of these"
    heads = (("Class", ""), *project, ("Annotations", "n"), (share, "n"), ("Balance", "x"), ("", "mark"))
    return summary + texts + table("classes" if several else "classes alone", "Classes", heads, rows)


def _fraction(number_: int) -> str:
    return {10: "tenth", 5: "fifth", 4: "quarter"}[number_]


def _class_row(row: ClassRow, most: int, total: int, several: bool) -> str:
    return (
        f'<th scope="row">{swatch(row.color)}{name(row.name)}</th>'
        + (f"<td>{name(row.project)}</td>" if several else "")
        + cell(row.annotations)
        + share_cell(row.annotations, total)
        + f'<td class="x">{bar([("few" if row.rare else "class", row.annotations)], most)}</td>'
        + f'<td class="mark">{"<mark>rare</mark>" if row.rare else ""}</td>'
    )


# --- splits --------------------------------------------------------------------------------------


def _splits(facts: PageFacts, found: Survey) -> str:
    own = facts.counts
    amounts = [own.splits.get(word, 0) for word in ("train", "val", "test", "unassigned")]
    others = own.images - sum(amounts)
    words = ["train", "val", "test", "unassigned"] + (["other words"] if others else [])
    legend = "".join(
        f"<li>{key(kind)}{word} <b>{number(amount)}</b> <span>{percent(amount, own.images)}</span></li>"
        for word, amount, kind in zip(words, [*amounts, others], _SPLIT_KINDS, strict=False)
    )
    total = bar(list(zip(_SPLIT_KINDS, [*amounts, others], strict=True)), own.images)
    lead = f'<div class="total">{total}<ul class="legend">{legend}</ul></div>'
    if found.without_val:
        lead += (
            f'<p class="lead warn">{counted(found.without_val, "dataset")} '
            f"{'has' if found.without_val == 1 else 'have'} images for training and none for validation.</p>"
        )
    several = found.project_count > 1
    rows = [_split_row(row, several) for row in found.datasets]
    project = (("Project", ""),) if several else ()
    heads = (
        ("Dataset", ""), *project, ("Split", "x"), ("Train", "n"), ("Val", "n"), ("Test", "n"),
        ("Unassigned", "n"), ("", "mark"),
    )  # fmt: skip
    kind = "splits" if several else "splits alone"
    return lead + table(kind, "Splits", heads, rows, more(found.dataset_count - len(rows), "dataset"))


def _split_row(row: DatasetRow, several: bool) -> str:
    train, val, test, unassigned, others = row.splits
    mark = "<mark>no validation</mark>" if row.lacks_val else ""
    return (
        f'<th scope="row">{name(row.name)}</th>'
        + (f"<td>{name(row.project)}</td>" if several else "")
        + f'<td class="x">{bar(list(zip(_SPLIT_KINDS, row.splits, strict=True)), row.images)}</td>'
        + cell(train) + cell(val) + cell(test) + cell(unassigned + others)
        + f'<td class="mark">{mark}</td>'
    )  # fmt: skip


# --- problems ------------------------------------------------------------------------------------


def _problems(facts: PageFacts, found: Survey) -> str:
    own = facts.counts
    items = [
        (
            counted(amount, singular(table_name)),
            f"without {_PARENTS[table_name]}: no file has them. <code>autoexport check</code> shows more.",
        )
        for table_name, amount in facts.orphans.items()
        if amount > 0 and table_name in _PARENTS
    ]
    if own.repaired:
        items.append(
            (counted(own.repaired, "value"), "could not be read as stored, and were repaired or left empty.")
        )
    if own.unsized:
        items.append((counted(own.unsized, "image"), "without width or height."))
    if found.without_val:
        items.append((counted(found.without_val, "dataset"), "with training images but no validation images."))
    if found.unused_count:
        items.append((counted(found.unused_count, "label"), _unused(found.unused, found.unused_count)))
    deleted = ", ".join(counted(amount, singular(word)) for word, amount in facts.soft_deleted.items() if amount)
    notes = f'<p class="more">Marked as deleted, and therefore left out: {deleted}.</p>' if deleted else ""
    if not items:
        return f'<p class="calm">Nothing: no orphans, no repaired values, no unused labels.</p>{notes}'
    listed = "".join(f"<li><b>{what}</b> {how}</li>" for what, how in items)
    return f'<ul class="problems">{listed}</ul>{notes}'


def _unused(rows: Sequence[ClassRow], total: int) -> str:
    listed = ", ".join(name(row.name) for row in rows)
    others = total - len(rows)
    more = f" and {number(others)} more" if others > 0 else ""
    return f'never used: <span class="names">{listed}{more}</span>'


# --- freshness and files -------------------------------------------------------------------------


def _fresh(facts: PageFacts) -> str:
    mode = "everything was exported" if facts.mode == "full" else "only the changes were exported"
    return (
        f'<dl class="facts"><div><dt>Database read</dt><dd>{moment(facts.timestamp)}</dd></div>'
        f"<div><dt>Generation</dt><dd>{number(facts.generation)}</dd></div>"
        f"<div><dt>Last export</dt><dd>{facts.seconds:.1f} s, {mode}</dd></div>"
        f"<div><dt>Database</dt><dd>{name(facts.database)}</dd></div></dl>"
        '<p class="more">The files change only if the data changes: they may be older than the last check. '
        "<code>autoexport status</code> and <code>/metrics</code> show the time of the last check.</p>"
    )


def _files(facts: PageFacts) -> str:
    rows = [
        f'<th scope="row"><a href="{quote(file, safe="/")}">{text(file)}</a></th>'
        f'<td class="n" data-v="{bytes_}">{size(bytes_)}</td>'
        + ('<td class="n" data-v="-1">–</td>' if rows_ is None else cell(rows_))
        for file, (bytes_, rows_) in list(facts.files.items())[:200]
    ]
    others = len(facts.files) - len(rows)
    more = f"and {counted(others, 'more file')}, which manifest.json lists." if others > 0 else ""
    return table("files", "Files", (("File", ""), ("Size", "n"), ("Rows", "n")), rows, more)
