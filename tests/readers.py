"""Reads exported COCO files with independent readers."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import struct
import subprocess
import sys
import zlib
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


def read_as_ultralytics(data_set: Path, split: str) -> list[tuple[Path, list[list[float]]]]:
    """The images of a list with the rows of their label files, by the rules of ultralytics' `data/utils.py`.

    Raises AssertionError for what would drop an image: a missing label file, or a row that is out of range, of an
    unknown class, repeated, or mixed with rows of another kind.
    """
    found = []
    count = len((data_set / "classes.txt").read_text().splitlines())
    for line in (data_set / f"{split}.txt").read_text().strip().splitlines():
        assert line.startswith("./")
        image = Path(line.replace("./", f"{data_set}/", 1))
        label = Path("/labels/".join(str(image).rsplit("/images/", 1)).rsplit(".", 1)[0] + ".txt")
        rows = [list(map(float, row.split())) for row in label.read_text().strip().splitlines()]
        assert len({len(row) > 6 for row in rows}) <= 1, "boxes beside polygons"
        assert len({tuple(row) for row in rows}) == len(rows), "a row twice"
        for row in rows:
            assert len(row) == 5 or (len(row) > 6 and len(row) % 2)
            assert row[0] in range(count)
            assert all(-1e-9 <= value <= 1 + 1e-9 for value in row[1:])
        found.append((image, rows))
    return found


def write_png(path: Path, width: int, height: int) -> None:
    """Write a black image of this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + bytes((width + 7) // 8)) * height
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
