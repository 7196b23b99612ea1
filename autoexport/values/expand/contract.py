"""The contract of a dialect: how the JSON that an application stores in one row becomes annotations."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from typing import Any

from autoexport.model.catalog import Scalar

Facts = ReadOnly[str, Any]
"""What a dialect has to know of the project to read its images: plain values, for the rendering process."""

NO_FACTS: Facts = {}

REGION_FIELDS = (
    "part", "type", "label", "label_id", "confidence", "x_min", "y_min", "x_max", "y_max", "polygon", "rotation",
    "points", "mask", "attributes",
)  # fmt: skip
"""What a region is: a tuple of these. `part` and the id of the stored row are the id. Numbers are in pixels.

`polygon`, `points` and `mask` are JSON as it is published, in bytes. `attributes` is a dictionary or None.
"""

Region = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ProjectDocument:
    """What the document of a project says: its labels by name, with their colours, and facts about its images.

    `unreadable`: there is a document, and it is not what the application writes.
    """

    labels: ReadOnly[str, str | None] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    unreadable: bool = False


@dataclass(slots=True)
class Regions:
    """What the document of a row of annotations says: its regions, and the size of the image if it is known.

    `repaired` counts what could not be read.
    """

    regions: list[Region] = field(default_factory=list)
    width: Any = None
    height: Any = None
    repaired: int = 0


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an application stores regions. All functions are pure.

    `read_project` takes the stored document of a project. `read_image` takes the parsed document of an image and
    the facts about its project; it returns fields of the image, or None if the row is no image. `read_regions`
    takes the parsed document of a row of annotations and the facts. `labels_by_id`: regions name their labels by
    id, so that the facts have `labels`, their names by id.

    `shape_fields` are the keys beyond the usual ones that every annotation gets. `fields` are all fields of
    annotations that `read_regions` gives, `image_fields` those of images. `constants` are values of annotations,
    unless the table has a column for them.
    """

    name: str
    fields: tuple[str, ...]
    shape_fields: tuple[str, ...]
    read_regions: Callable[[Any, Facts], Regions]
    image_fields: tuple[str, ...] = ()
    read_project: Callable[[Scalar], ProjectDocument] | None = None
    read_image: Callable[[Any, Facts], dict[str, Scalar] | None] | None = None
    labels_by_id: bool = False
    constants: ReadOnly[str, Any] = field(default_factory=dict)
