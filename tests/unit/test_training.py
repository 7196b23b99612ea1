"""The common part of the formats for training: folders, classes, paths, polygons."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoexport.formats.training import classes, folders, paths
from autoexport.values import rings

NAMES = st.one_of(
    st.none(),
    st.text(),
    st.sampled_from(["..", ".", "/", "a/b", "a\\b", "CON", "nul.txt", "a", "A", "a-1", "a ", " a", "é", "é", "~"]),
)


@given(st.dictionaries(st.one_of(st.integers(), st.text()), NAMES))
def test_folders_are_unique_and_stay_inside(projects):
    named = folders.folders(projects.items())
    assert named.keys() == projects.keys()
    folded = [name.casefold() for name in named.values()]
    assert len(set(folded)) == len(folded)
    for name in named.values():
        assert name not in ("", ".", "..")
        assert not set('/\\\0\n:*?"<>|') & set(name)
        assert name == name.strip(" .")
        assert len(name.encode()) <= 100


def test_a_folder_has_the_name_of_its_project():
    named = folders.folders(
        [(1, "Vehicle Detection"), (2, "cars/2024"), (3, "x"), (4, "X"), (5, "../.."), (6, None)]
    )
    assert named == {1: "Vehicle Detection", 2: "cars_2024", 3: "x-3", 4: "X-4", 5: "5", 6: "6"}


@given(st.lists(st.text()), st.lists(st.text()), st.lists(st.none() | st.text()), st.lists(st.text()))
def test_classes_keep_their_place(pinned, published, labels, seen):
    first = classes.with_seen(classes.merged(pinned, published, labels), seen)
    assert len(set(first)) == len(first)
    later = classes.with_seen(classes.merged(pinned, first, labels[1:]), [*seen, "new"])
    assert later[: len(first)] == first
    assert classes.read_document(classes.document(7, first)) == (7, first)
    assert classes.document("é", first).isascii()


def test_classes_are_in_the_order_of_setting_label_and_name():
    assert classes.merged(["z"], ["b"], ["c", None, " ", "b", "a"]) == ["z", "b", "c", "a"]
    assert classes.with_seen(["z"], ["d", "", "c", "z"]) == ["z", "c", "d"]


@pytest.mark.parametrize(
    ("setting", "names"),
    [("", []), ("car, person ,", ["car", "person"]), ('["a, b", "#x"]', ["a, b", "#x"]), ("a,a", ["a"])],
)
def test_classes_of_the_setting(setting, names):
    assert classes.pinned_classes(setting) == names


@pytest.mark.parametrize("setting", ["[1]", "[", '{"a": 1}['])
def test_bad_classes_of_the_setting(setting):
    if setting.startswith("["):
        with pytest.raises(ValueError, match=r"."):
            classes.pinned_classes(setting)


@pytest.mark.parametrize("text", [b"", b"[]", b'{"project_id": 1}', b'{"project_id": 1, "classes": [1]}', b"\xff"])
def test_a_file_that_is_no_list_of_classes(text):
    assert classes.read_document(text) is None


@pytest.mark.parametrize(
    ("path", "root", "relative"),
    [
        ("img/a.jpg", "", "img/a.jpg"),
        ("/data/img/a.jpg", "", "data/img/a.jpg"),
        ("/data/img/a.jpg", "/data", "img/a.jpg"),
        ("/data/img/a.jpg", "/data/", "img/a.jpg"),
        ("/database/a.jpg", "/data", "database/a.jpg"),
        ("C:\\img\\a.jpg", "", "img/a.jpg"),
        ("C:\\img\\a.jpg", "C:/img", "a.jpg"),
        ("s3://bucket/a.jpg", "", "bucket/a.jpg"),
        ("./a/../../b.jpg", "", "b.jpg"),
        ("../../etc/passwd", "", "etc/passwd"),
        ("uploads/a.jpg", "uploads", "a.jpg"),
        ("data", "data", "data"),
        ("/", "", "name.png"),
        (None, "", "name.png"),
        ("Größe é.jpg", "", "Größe é.jpg"),
    ],
)
def test_paths_are_relative_to_the_root(path, root, relative):
    assert paths.relative_paths([path], ["name.png"], root) == [relative]


@given(st.none() | st.text("ab./\\: \n"), st.none() | st.text("ab./"), st.text("ab./"))
def test_no_path_leads_out_of_the_root(path, name, root):
    (found,) = paths.relative_paths([path], [name], root)
    if found is not None:
        assert not set(found.split("/")) & {"", ".", ".."}


@pytest.mark.parametrize(
    ("path", "rooted", "pair"),
    [
        ("a/b.jpg", True, ("a/b.jpg", "a/b.txt")),
        ("b.c.JPG", False, ("b.c.JPG", "b.c.txt")),
        ("x/images/a/b.jpg", False, ("a/b.jpg", "a/b.txt")),
        ("images/images/b.jpg", False, ("b.jpg", "b.txt")),
        ("x/images/b.jpg", True, None),
        ("xyz/noimages/b.jpg", True, ("xyz/noimages/b.jpg", "xyz/noimages/b.txt")),
        ("v1.2/file", False, None),
        ("a.gif", False, None),
        (".jpg", False, None),
        ("a\u2028b.jpg", False, None),
        (" a.jpg", False, None),
        ("a" * 250 + ".jpg", False, None),
        (None, False, None),
    ],
)
def test_label_files(path, rooted, pair):
    assert paths.label_path(path, rooted=rooted) == pair


SQUARE = [[0, 0], [10, 0], [10, 10], [0, 10]]
HOLE = [[2, 2], [4, 2], [4, 4], [2, 4]]


@pytest.mark.parametrize(
    ("polygon", "flat"),
    [
        (SQUARE, [[0, 0, 10, 0, 10, 10, 0, 10]]),
        ([{"x": x, "y": y} for x, y in SQUARE], [[0, 0, 10, 0, 10, 10, 0, 10]]),
        ([*SQUARE, SQUARE[0]], [[0, 0, 10, 0, 10, 10, 0, 10]]),
        ([[*point, 5] for point in SQUARE], [[0, 0, 10, 0, 10, 10, 0, 10]]),
        ([SQUARE, HOLE], [[0, 0, 10, 0, 10, 10, 0, 10], [2, 2, 4, 2, 4, 4, 2, 4]]),
        ([[1, 1]], []),
        ([[1, 1], [2, 2]], []),
        ([[1, 1], [2, 2], [3, 3]], []),
        ([[1, 1], [2, None], [3, 3]], []),
        ([[1, 1], ["2", 2], [3, 3]], []),
        ([True, [1], {}], []),
        ([], []),
        ("text", []),
        ({"x": 1}, []),
        (None, []),
    ],
)
def test_polygons_become_flat_rings(polygon, flat):
    assert rings.flat_rings(polygon) == flat
    assert rings.flat_rings(rings.parse(json.dumps(polygon).encode())) == flat


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("[1]", [1]),
        ("[[1, 2.5], [-3, 4e2]]", [1, 2.5, -3, 400.0]),
        ("[[1], [2, 3, 4]]", [[1], [2, 3, 4]]),
        ("[[1, 2], [3, null]]", [[1, 2], [3, None]]),
        ("[[[1, 2], [3, 4]]]", [[[1, 2], [3, 4]]]),
        ("[" * 3000, None),
        ('[{"x": 1, "y": 2.5}, {"x": -3, "y": 4e2}]', [1, 2.5, -3, 400.0]),
        ('[{"x": 1, "y": 2, "tag": "a"}]', [{"x": 1, "y": 2, "tag": "a"}]),
        ('[{"x": "1", "y": 2}]', [{"x": "1", "y": 2}]),
        ('[{"x": [1], "y": 2}]', [[1], 2]),
        ('[{"x": 1}, {"y": 2}]', [{"x": 1}, {"y": 2}]),
    ],
)
def test_points_become_a_flat_list(text, parsed):
    assert rings.parse(text.encode()) == parsed


def test_a_hole_is_cut_out():
    outer, hole, island = (rings.flat_rings(ring)[0] for ring in (SQUARE, HOLE, [[2.5, 2.5], [3, 2.5], [3, 3]]))
    assert rings.parts([outer]) == [outer]
    (cut,) = rings.parts([hole, outer])
    assert rings.area(cut) == 100 - 4
    assert len(rings.parts([outer, hole, island])) == 2
    aside = [20, 0, 30, 0, 30, 10]
    assert rings.parts([outer, aside]) == [outer, aside]
    joined = rings.one_ring([outer, aside])
    assert rings.area(joined) == 150
    assert set(zip(joined[::2], joined[1::2], strict=True)) == {
        (0, 0),
        (10, 0),
        (10, 10),
        (0, 10),
        (20, 0),
        (30, 0),
        (30, 10),
    }


def test_a_repeated_ring_counts_once():
    outer, hole = (rings.flat_rings(ring)[0] for ring in (SQUARE, HOLE))
    assert rings.parts([outer, outer]) == [outer]
    assert rings.parts([hole, outer, hole, outer]) == rings.parts([hole, outer])


def test_a_ring_in_holes_alone_is_a_part():
    """The small ring lies in the notch of the square that the middle one crosses: in a hole, and in no part."""
    notched = [0, 0, 10, 0, 10, 10, 6, 10, 6, 3, 4, 3, 4, 10, 0, 10]
    crossing, small = [2, 5, 8, 5, 8, 8, 2, 8], [4.5, 6, 5.5, 6, 5.5, 7]
    cut, alone = rings.parts([notched, crossing, small])
    assert rings.area(cut) == 100 - 14 - 18
    assert alone == small


LATTICE = st.integers(0, 4) | st.sampled_from([0.5, 1.5, 3.5])
RINGS = st.lists(st.tuples(LATTICE, LATTICE), min_size=3, max_size=8).map(
    lambda points: [value for point in points for value in point]
)


@given(st.lists(RINGS.filter(rings.area), min_size=1, max_size=6))
def test_parts_have_the_points_of_their_rings(given_rings):
    """Rings on few points: they repeat, touch and cross each other often."""
    before = [list(ring) for ring in given_rings]
    parts = rings.parts(given_rings)
    assert given_rings == before
    for found in (parts, [rings.one_ring(parts)]):
        points = {point for ring in found for point in zip(ring[::2], ring[1::2], strict=True)}
        assert points == {point for ring in before for point in zip(ring[::2], ring[1::2], strict=True)}
    assert len(parts) <= len(before)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=12))
def test_area_and_hull(points):
    flat = [value for point in points for value in point]
    expected = sum(ax * by - bx * ay for (ax, ay), (bx, by) in pairwise([*points, points[0]])) / 2
    assert rings.signed_area(flat) == expected
    left, top, right, bottom = rings.hull([flat])
    assert rings.area(flat) <= (right - left) * (bottom - top) or len(points) > 4
    assert rings.hull([rings.clamped(flat, 10, 20)])[2:] <= (10, 20)
    assert rings.scaled(flat, 2, 3)[:2] == [2 * flat[0], 3 * flat[1]]
