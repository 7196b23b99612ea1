"""Reads exported COCO files with independent readers."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import hotcoco
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_PANLABEL = Path(sys.executable).with_name("panlabel")


def validate(path: Path, form: str) -> None:
    """Let panlabel validate a data set: there must be no error."""
    done = subprocess.run(
        [_PANLABEL, "validate", "--format", form, path], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, f"{path}: {done.stdout}{done.stderr}"


def check_coco(path: Path) -> dict[str, Any]:
    """Read a COCO file with panlabel, hotcoco and pycocotools; its content."""
    validate(path, "coco")
    document: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    keys = [row["id"] for name in ("images", "annotations") for row in document[name]]
    assert all(isinstance(key, int) and 1 <= key < 2**53 for key in keys)
    for name in ("images", "annotations", "categories"):
        assert len({row["id"] for row in document[name]}) == len(document[name]), name
    parsed = hotcoco.COCO(str(path))
    assert sorted(parsed.getImgIds()) == sorted(row["id"] for row in document["images"])
    assert len(parsed.getAnnIds()) == len(document["annotations"])
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(path)).getCatIds()) == len(document["categories"])
        for kind in ("bbox", "segm"):
            rows = [row for row in document["annotations"] if kind == "bbox" or row["segmentation"]]
            if rows:
                assert average_precision(document, rows, kind) > 1 - 1e-9
    return document


def average_precision(document: dict[str, Any], rows: list[dict[str, Any]], kind: str) -> float:
    """The precision of these annotations as their own predictions, averaged as COCO does it."""
    truth = COCO()
    truth.dataset = {**document, "annotations": copy.deepcopy(rows)}
    truth.createIndex()
    predictions = [
        {
            "image_id": row["image_id"],
            "category_id": row["category_id"],
            "score": 0.9,
            **({"bbox": row["bbox"]} if kind == "bbox" else {"segmentation": truth.annToRLE(row)}),
        }
        for row in rows
    ]
    evaluation = COCOeval(truth, truth.loadRes(predictions), kind)
    evaluation.params.maxDets = [1, 100, 10_000]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, 2]
    return float(precision[precision > -1].mean())
