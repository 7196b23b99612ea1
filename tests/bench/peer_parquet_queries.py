"""The statements of the rows of the two Parquet files, for the peers that write such files."""

from __future__ import annotations

_PARENTS = "p.id AS project_id, p.name AS project_name, d.id AS dataset_id, d.name AS dataset_name"
_FROM = (
    "FROM images i JOIN datasets d ON d.id = i.dataset_id JOIN projects p ON p.id = d.project_id {} "
    "ORDER BY p.id, d.id, i.id{}"
)
IMAGES = (
    f"SELECT i.id AS image_id, i.filename, i.file_path, {_PARENTS}, i.width, i.height, i.file_size, "
    "i.split_section AS split, i.is_labeled, i.original_filename, i.format, i.split_type AS status, "
    "i.is_auto_labeled, i.is_verified, i.created_at, i.updated_at " + _FROM.format("", "")
)
ANNOTATIONS = (
    f"SELECT a.id AS annotation_id, i.id AS image_id, i.filename, {_PARENTS}, i.split_section AS split, "
    "a.class_name AS label, a.class_id AS label_id, a.confidence, a.x_min, a.y_min, a.x_max, a.y_max, "
    "a.segmentation AS polygon, a.is_auto_generated, a.is_verified, a.model_id, a.created_at, a.updated_at "
    + _FROM.format("JOIN annotations a ON a.image_id = i.id", ", a.id")
)
