"""Writes the statements of the peers and limits: the same tree and columns in each database's dialect."""

from __future__ import annotations

IMAGE_COLUMNS = (
    "id", "filename", "original_filename", "file_path", "width", "height", "format", "file_size", "split_section",
    "split_type", "is_labeled", "is_auto_labeled", "is_verified", "created_at", "updated_at",
)  # fmt: skip
ANNOTATION_COLUMNS = (
    "id", "class_name", "class_id", "confidence", "x_min", "y_min", "x_max", "y_max", "segmentation",
    "is_auto_generated", "is_verified", "model_id", "created_at", "updated_at",
)  # fmt: skip
"""The columns that this exporter reads of each row, apart from the link to its parent."""

_RENAMED = {"split_section": "split", "split_type": "status", "class_name": "label", "class_id": "label_id"}
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_PROJECT = ("id", "name", "description", "project_type", "created_at", "updated_at")
_DATASET = ("id", "name", "description", "project_id", "created_at", "updated_at")

IMAGES_CSV = """
SELECT i.id AS image_id, i.filename, i.file_path, p.id AS project_id, p.name AS project_name, d.id AS dataset_id,
  d.name AS dataset_name, i.width, i.height, i.file_size, i.split_section AS split, {count} AS annotation_count,
  i.is_labeled, i.original_filename, i.format, i.split_type AS status, i.is_auto_labeled, i.is_verified,
  i.created_at, i.updated_at
FROM images i JOIN datasets d ON d.id = i.dataset_id JOIN projects p ON p.id = d.project_id {counted}
ORDER BY p.id, d.id, i.id
"""


def _columns(alias: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{alias}.{name}" for name in names)


def rows_of_images(*, ordered: bool) -> str:
    """All images with the columns that this exporter reads."""
    order = " ORDER BY i.dataset_id, i.id" if ordered else ""
    return f"SELECT i.dataset_id, {_columns('i', IMAGE_COLUMNS)} FROM images i{order}"


def rows_of_annotations(*, ordered: bool) -> str:
    """All annotations with the columns that this exporter reads, ordered as the tree needs them."""
    selected = f"SELECT a.image_id, {_columns('a', ANNOTATION_COLUMNS)} FROM annotations a"
    if not ordered:
        return selected
    return f"{selected} JOIN images i ON i.id = a.image_id ORDER BY i.dataset_id, i.id, a.id"


def _pairs(alias: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"'{_RENAMED.get(name, name)}', {alias}.{name}" for name in names)


# --- SQLite: correlated, over the indexes ---------------------------------------------------------


def sqlite_tree(*, one_value: bool) -> str:
    """The tree in one value, or in one value a project.

    SQLite's longest value is 1 GB (sqlite.org/limits.html).
    """
    flat = tuple(name for name in ANNOTATION_COLUMNS if name not in (*_CORNERS, "segmentation"))
    annotation = (
        f"json_object({_pairs('a', flat)}, 'bbox', json_object({_pairs('a', _CORNERS)}), "
        "'polygon', json(a.segmentation))"
    )
    annotations = f"(SELECT json_group_array({annotation}) FROM annotations a WHERE a.image_id = i.id)"
    image = f"json_object({_pairs('i', IMAGE_COLUMNS)}, 'annotations', json({annotations}))"
    images = f"(SELECT json_group_array({image}) FROM images i WHERE i.dataset_id = d.id)"
    dataset = f"json_object({_pairs('d', _DATASET)}, 'images', json({images}))"
    datasets = f"(SELECT json_group_array({dataset}) FROM datasets d WHERE d.project_id = p.id)"
    project = f"json_object({_pairs('p', _PROJECT)}, 'datasets', json({datasets}))"
    if not one_value:
        return f"SELECT {project} FROM projects p ORDER BY p.id"
    return f"SELECT json_object('projects', (SELECT json_group_array({project}) FROM projects p))"


def sqlite_images_csv() -> str:
    """images.csv, its annotations counted over the index."""
    count = "(SELECT count(*) FROM annotations a WHERE a.image_id = i.id)"
    return " ".join(IMAGES_CSV.format(count=count, counted="").split())


# --- PostgreSQL: grouped, so that it needs no index -----------------------------------------------


def postgres_tree() -> str:
    """The tree, one line a project: a value of PostgreSQL holds at most 1 GB."""
    flat = tuple(name for name in ANNOTATION_COLUMNS if name not in (*_CORNERS, "segmentation"))
    annotation = (
        f"json_build_object({_pairs('a', flat)}, 'bbox', json_build_object({_pairs('a', _CORNERS)}), "
        "'polygon', a.segmentation)"
    )
    image = f"json_build_object({_pairs('i', IMAGE_COLUMNS)}, 'annotations', coalesce(aa.list, '[]'))"
    dataset = f"json_build_object({_pairs('d', _DATASET)}, 'images', coalesce(ii.list, '[]'))"
    project = f"json_build_object({_pairs('p', _PROJECT)}, 'datasets', coalesce(dd.list, '[]'))"
    statement = f"""
WITH aa AS (SELECT a.image_id, json_agg({annotation} ORDER BY a.id) AS list FROM annotations a GROUP BY 1),
ii AS (SELECT i.dataset_id, json_agg({image} ORDER BY i.id) AS list
  FROM images i LEFT JOIN aa ON aa.image_id = i.id GROUP BY 1),
dd AS (SELECT d.project_id, json_agg({dataset} ORDER BY d.id) AS list
  FROM datasets d LEFT JOIN ii ON ii.dataset_id = d.id GROUP BY 1)
SELECT {project} FROM projects p LEFT JOIN dd ON dd.project_id = p.id ORDER BY p.id
"""
    return " ".join(statement.split())


def postgres_images_csv() -> str:
    """images.csv, its annotations counted in one pass."""
    counted = "LEFT JOIN (SELECT image_id, count(*) AS n FROM annotations GROUP BY 1) c ON c.image_id = i.id"
    return " ".join(IMAGES_CSV.format(count="coalesce(c.n, 0)", counted=counted).split())


# --- DuckDB: grouped, as nested structures that it writes as JSON ---------------------------------


def _fields(alias: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"'{_RENAMED.get(name, name)}': {alias}.{name}" for name in names)


def duckdb_tree() -> str:
    """The tree, one line a project, from either database."""
    flat = tuple(name for name in ANNOTATION_COLUMNS if name not in (*_CORNERS, "segmentation"))
    annotation = (
        f"{{{_fields('a', flat)}, 'bbox': {{{_fields('a', _CORNERS)}}}, 'polygon': a.segmentation::VARCHAR::JSON}}"
    )
    image = f"{{{_fields('i', IMAGE_COLUMNS)}, 'annotations': coalesce(aa.list, [])}}"
    dataset = f"{{{_fields('d', _DATASET)}, 'images': coalesce(ii.list, [])}}"
    project = ", ".join(f"p.{name}" for name in _PROJECT)
    statement = f"""
WITH aa AS (SELECT a.image_id, list({annotation} ORDER BY a.id) AS list FROM annotations a GROUP BY 1),
ii AS (SELECT i.dataset_id, list({image} ORDER BY i.id) AS list
  FROM images i LEFT JOIN aa ON aa.image_id = i.id GROUP BY 1),
dd AS (SELECT d.project_id, list({dataset} ORDER BY d.id) AS list
  FROM datasets d LEFT JOIN ii ON ii.dataset_id = d.id GROUP BY 1)
SELECT {project}, coalesce(dd.list, []) AS datasets
FROM projects p LEFT JOIN dd ON dd.project_id = p.id ORDER BY p.id
"""
    return " ".join(statement.split())


duckdb_images_csv = postgres_images_csv
