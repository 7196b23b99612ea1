"""Names the value rule of each published column."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoexport.model.catalog import Scalar
from autoexport.values import scalars
from autoexport.values.json_columns import documents
from autoexport.values.polygons import points, polygons

Rule = Callable[[Sequence[Scalar]], scalars.Ruled]

IMAGE_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "filename": scalars.texts,
    "original_filename": scalars.texts,
    "file_path": scalars.texts,
    "width": scalars.numbers,
    "height": scalars.numbers,
    "format": scalars.texts,
    "file_size": scalars.numbers,
    "split": scalars.splits,
    "status": scalars.texts,
    "is_labeled": scalars.flags,
    "is_auto_labeled": scalars.flags,
    "is_verified": scalars.flags,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
ANNOTATION_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "type": scalars.texts,
    "label": scalars.names,
    "label_id": scalars.texts,
    "confidence": scalars.numbers,
    "polygon": polygons,
    "is_auto_generated": scalars.flags,
    "is_verified": scalars.flags,
    "model_id": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
SHAPE_RULES: dict[str, Rule] = {
    "rotation": scalars.numbers,
    "points": points,
    "mask": documents,
    "attributes": documents,
    "track_id": scalars.texts,
    "frame": scalars.numbers,
    "keyframe": scalars.flags,
}
"""The rules of the columns that a block has only where the mapping has them."""

PARENT_RULES: dict[str, Rule] = {
    "id": scalars.texts,
    "name": scalars.names,
    "description": scalars.texts,
    "project_type": scalars.texts,
    "color": scalars.texts,
    "created_at": scalars.times,
    "updated_at": scalars.times,
}
