"""Operations of an application on its rows, in any order (see `tests.properties.histories`)."""

from __future__ import annotations

from tests.properties.histories import IMAGES, History, on_a_row, on_many

# --- projects, datasets, labels -------------------------------------------------------------------


@on_a_row
def add_project(h: History, a: int, b: int) -> None:
    """A project is added, perhaps with datasets that existed before it."""
    h.insert("projects", id=h.key("projects", a), name=h.word(b), description=None)


@on_a_row
def add_dataset(h: History, a: int, b: int) -> None:
    """A dataset is added, perhaps with images that existed before it, perhaps without an existing project."""
    h.insert("datasets", id=h.key("datasets", a), project_id=h.link("projects", b), name=h.word(b))


@on_a_row
def add_label(h: History, a: int, b: int) -> None:
    """A label is added, sometimes with the name of another."""
    name = ("car", "花", h.word(b))[b % 3]
    h.insert("labels", id=h.key("labels", a), name=name, color="#000", project_id=h.link("projects", b))


@on_a_row
def rename(h: History, a: int, b: int) -> None:
    """A project, dataset or label gets another name."""
    table = ("projects", "datasets", "labels")[b % 3]
    h.update(table, h.some(table, a), name=h.word(b))


@on_a_row
def describe(h: History, a: int, b: int) -> None:
    """A column changes that is published only outside of the images."""
    table = ("projects", "datasets")[b % 2]
    h.update(table, h.some(table, a), description=h.word(b))
    h.update("labels", h.some("labels", a), color=h.word(b)[:20])


@on_a_row
def swap_names(h: History, a: int, b: int) -> None:
    """Two projects, or two datasets, exchange their names."""
    table = ("projects", "datasets")[b % 2]
    one, other = h.some(table, a), h.some(table, a + 1)
    names = [h.db.execute(f"SELECT name FROM {table} WHERE id = ?", key) for key in (one, other)]
    if all(names):
        h.update(table, one, name=names[1][0][0])
        h.update(table, other, name=names[0][0][0])


@on_a_row
def remove_parent(h: History, a: int, b: int) -> None:
    """A project, dataset or label is removed; its children stay."""
    table = ("datasets", "projects", "labels")[b % 3]
    h.db.execute(f"DELETE FROM {table} WHERE id = ?", h.some(table, a))


@on_a_row
def move_dataset(h: History, a: int, b: int) -> None:
    """A dataset moves to another project, which may not exist."""
    h.update("datasets", h.some("datasets", a), project_id=h.link("projects", b))


@on_a_row
def renumber_dataset(h: History, a: int, b: int) -> None:
    """A dataset gets another key; its images follow it, or do not."""
    old, new = h.some("datasets", a), h.key("datasets", b)
    h.update("datasets", old, id=new)
    if b % 2:
        h.db.execute("UPDATE images SET dataset_id = ? WHERE dataset_id = ?", new, old)


@on_a_row
def swap_dataset_rows(h: History, a: int, b: int) -> None:
    """Two datasets of the same name and project exchange their codes, and with them their images."""
    one, other = h.some("datasets", a), h.some("datasets", a + 1)
    if not h.has("datasets", "code") or one == other:
        return
    found = [h.db.execute("SELECT code FROM datasets WHERE id = ?", key) for key in (one, other)]
    if not all(found):
        return
    codes = [rows[0][0] for rows in found]
    h.update("datasets", one, code=None)
    h.update("datasets", other, code=codes[0])
    h.update("datasets", one, code=codes[1])


@on_a_row
def swap_image_codes(h: History, a: int, b: int) -> None:
    """Two images exchange their codes, and with them their annotations."""
    one, other = h.some("images", a), h.some("images", b)
    if not h.has("images", "code") or one == other:
        return
    found = [h.db.execute("SELECT code FROM images WHERE id = ?", key) for key in (one, other)]
    if not all(found):
        return
    codes = [rows[0][0] for rows in found]
    h.update("images", one, code=None)
    h.update("images", other, code=codes[0])
    h.update("images", one, code=codes[1])


@on_a_row
def mark_deleted(h: History, a: int, b: int) -> None:
    """A row is marked as deleted, or the mark is removed."""
    table = ("images", "annotations", "datasets", "projects", "labels")[b % 5]
    key = h.some(table, a)
    mark = (None, "2025-01-01")[a // 3 % 2]
    word = ("no", " Yes", "maybe", None)[a // 3 % 4]
    h.update(table, key, deleted_at=mark, is_deleted=a // 3 % 2, deleted=word)


@on_a_row
def describe_in_words(h: History, a: int, b: int) -> None:
    """An image gets a number and a flag as text, which need not be readable."""
    width, flag = ("640", "wide", "1e2", None)[a % 4], ("yes", "F", "perhaps", None)[b % 4]
    h.update("images", h.some("images", a // 4), original_width=width, reviewed=flag)


# --- images ---------------------------------------------------------------------------------------


@on_a_row
def add_image(h: History, a: int, b: int) -> None:
    """An image is added to a dataset that exists."""
    h.add_image(a, h.link_to_some("datasets", b), b)


@on_a_row
def add_orphan_image(h: History, a: int, b: int) -> None:
    """An image is added to a dataset that may not exist yet."""
    h.add_image(a, h.link("datasets", b), b)


@on_many
def add_images(h: History, a: int, b: int) -> None:
    """A run of images is added."""
    dataset = h.link_to_some("datasets", b)
    for number in range(b % 40):
        if not h.db.execute("SELECT 1 FROM images WHERE id = ?", h.key("images", a + number)):
            h.add_image(a + number, dataset, b)


@on_a_row
def flip(h: History, a: int, b: int) -> None:
    """An image changes and keeps its size."""
    h.db.execute(
        "UPDATE images SET split_section = ? WHERE id = ?", ("train", "valid")[b % 2], h.some("images", a)
    )


@on_a_row
def rename_image(h: History, a: int, b: int) -> None:
    """An image gets another name, sometimes a long one, sometimes a formula."""
    h.update("images", h.some("images", a), filename=h.word(b) + "n" * (b % 5 * 50))


@on_a_row
def move_image(h: History, a: int, b: int) -> None:
    """An image moves to another dataset."""
    h.update("images", h.some("images", a), dataset_id=h.link_to_some("datasets", b))


@on_a_row
def lose_image(h: History, a: int, b: int) -> None:
    """An image moves to a dataset that may not exist."""
    h.update("images", h.some("images", a), dataset_id=h.link("datasets", b))


@on_many
def move_images(h: History, a: int, b: int) -> None:
    """All images of a dataset, or all below a key, move to another one."""
    to = h.link("datasets", b)
    if b % 2:
        h.db.execute("UPDATE images SET dataset_id = ? WHERE dataset_id = ?", to, h.link_to_some("datasets", a))
    else:
        h.db.execute("UPDATE images SET dataset_id = ? WHERE id < ?", to, h.some("images", a))


@on_a_row
def renumber_image(h: History, a: int, b: int) -> None:
    """An image gets another key; its annotations follow it, or stay, or others now belong to it."""
    old, new = h.some("images", a), h.key("images", b)
    h.update("images", old, id=new)
    if b % 2 and not h.has("images", "code"):
        h.db.execute("UPDATE annotations SET image_id = ? WHERE image_id = ?", new, old)


@on_a_row
def swap_image_keys(h: History, a: int, b: int) -> None:
    """Two images exchange their keys, and with them their annotations."""
    one, other = h.some("images", a), h.some("images", b)
    free = h.variant.key(IMAGES + 1)
    if one != other:
        for old, new in ((one, free), (other, one), (free, other)):
            h.update("images", old, id=new)


@on_a_row
def swap_image_places(h: History, a: int, b: int) -> None:
    """Two images exchange their datasets: only the counts of blocks change."""
    one, other = h.some("images", a), h.some("images", b)
    places = [h.db.execute("SELECT dataset_id FROM images WHERE id = ?", key) for key in (one, other)]
    if all(places):
        h.update("images", one, dataset_id=places[1][0][0])
        h.update("images", other, dataset_id=places[0][0][0])


@on_a_row
def remove_image(h: History, a: int, b: int) -> None:
    """An image is removed, with its annotations or without them."""
    key = h.some("images", a)
    if b % 2 and not h.has("images", "code"):
        h.db.execute("DELETE FROM annotations WHERE image_id = ?", key)
    h.db.execute("DELETE FROM images WHERE id = ?", key)


@on_many
def remove_images(h: History, a: int, b: int) -> None:
    """A run of images is removed."""
    low, high = h.some("images", a), h.some("images", a + b % 30)
    h.db.execute("DELETE FROM images WHERE id >= ? AND id < ?", low, high)


@on_a_row
def replace_image(h: History, a: int, b: int) -> None:
    """One image is removed and another added: the number of images stays the same."""
    remove_image(h, a, b)
    add_orphan_image(h, b, a)


@on_a_row
def take_over_image(h: History, a: int, b: int) -> None:
    """An image is removed and comes back as another row in another dataset, perhaps with its old annotations."""
    key = h.some("images", a)
    h.db.execute("DELETE FROM images WHERE id = ?", key)
    h.insert("images", id=key, filename=h.word(a), original_filename="o", file_path="p",
             dataset_id=h.link_to_some("datasets", b))  # fmt: skip


# --- annotations ----------------------------------------------------------------------------------


@on_a_row
def annotate(h: History, a: int, b: int) -> None:
    """An annotation is added to an image that exists."""
    h.add_annotation(a, h.link_to_some("images", b), b)


@on_a_row
def annotate_nothing(h: History, a: int, b: int) -> None:
    """An annotation is added to an image that may not exist yet."""
    h.add_annotation(a, h.link("images", b), b)


@on_many
def annotate_many(h: History, a: int, b: int) -> None:
    """A run of annotations is added to a run of images."""
    for number in range(b % 50):
        if not h.db.execute("SELECT 1 FROM annotations WHERE id = ?", h.key("annotations", a + number)):
            h.add_annotation(a + number, h.link("images", a + number // 3), b + number)


@on_a_row
def correct(h: History, a: int, b: int) -> None:
    """An annotation changes and keeps its size."""
    h.update("annotations", h.some("annotations", a), x_min=float(next(h.counter)) + 0.5, class_id=1 + b % 20)


@on_a_row
def reshape(h: History, a: int, b: int) -> None:
    """A polygon grows or shrinks, into overflow pages or out of them."""
    h.update("annotations", h.some("annotations", a), segmentation=h.polygon(b, a))


@on_a_row
def nudge(h: History, a: int, b: int) -> None:
    """A few characters change inside the longest polygon: perhaps only an overflow page of the row differs."""
    query = "SELECT id, segmentation FROM annotations WHERE segmentation IS NOT NULL"
    found = h.db.execute(f"{query} ORDER BY length(CAST(segmentation AS text)) DESC, id LIMIT 1 OFFSET ?", a % 4)
    if found and len(found[0][1]) > 50:
        text = found[0][1].decode() if isinstance(found[0][1], bytes) else found[0][1]
        places = [place for place, char in enumerate(text) if char in "12345678"]
        at = places[b % len(places)]
        changed = text[:at] + str(int(text[at]) + 1) + text[at + 1 :]
        h.db.execute("UPDATE annotations SET segmentation = ? WHERE id = ?", changed, found[0][0])


@on_a_row
def not_a_number(h: History, a: int, b: int) -> None:
    """A number becomes infinity, which cannot be published, or null.

    Both are published as null, and infinities are counted.
    """
    h.update("annotations", h.some("annotations", a), confidence=(float("inf"), None)[b % 2])


@on_a_row
def move_annotation(h: History, a: int, b: int) -> None:
    """An annotation moves to another image."""
    h.update("annotations", h.some("annotations", a), image_id=h.link_to_some("images", b))


@on_a_row
def lose_annotation(h: History, a: int, b: int) -> None:
    """An annotation moves to an image that may not exist."""
    h.update("annotations", h.some("annotations", a), image_id=h.link("images", b))


@on_many
def move_annotations(h: History, a: int, b: int) -> None:
    """All annotations of an image move to another one."""
    h.db.execute("UPDATE annotations SET image_id = ? WHERE image_id = ?",
                 h.link("images", b), h.link_to_some("images", a))  # fmt: skip


@on_a_row
def renumber_annotation(h: History, a: int, b: int) -> None:
    """An annotation gets another key, and another position in its image."""
    h.update("annotations", h.some("annotations", a), id=h.key("annotations", b))


@on_a_row
def remove_annotation(h: History, a: int, b: int) -> None:
    """An annotation is removed."""
    h.db.execute("DELETE FROM annotations WHERE id = ?", h.some("annotations", a))


@on_a_row
def replace_annotation(h: History, a: int, b: int) -> None:
    """One annotation is removed and another image gets one: the number of annotations stays the same."""
    remove_annotation(h, a, b)
    annotate(h, b, a)


@on_a_row
def replace_by_orphan(h: History, a: int, b: int) -> None:
    """A published annotation is removed and an unpublished one added: the totals stay the same."""
    remove_annotation(h, a, b)
    h.add_annotation(b, h.link("images", IMAGES - 1 - b % 5), a)


@on_a_row
def remove_orphan_and_add(h: History, a: int, b: int) -> None:
    """The unpublished annotations are removed, and a published one is added."""
    name = "code" if h.has("images", "code") else "id"
    h.db.execute(
        f"DELETE FROM annotations WHERE image_id NOT IN (SELECT {name} FROM images WHERE {name} IS NOT NULL)"
    )
    annotate(h, a, b)


@on_many
def remove_annotations(h: History, a: int, b: int) -> None:
    """A run of annotations is removed, or all of them."""
    if a % 10 == 0:
        h.db.execute("DELETE FROM annotations")
    else:
        low, high = h.some("annotations", a), h.some("annotations", a + b % 60)
        h.db.execute("DELETE FROM annotations WHERE id >= ? AND id < ?", low, high)


@on_many
def delete_all_and_reinsert(h: History, a: int, b: int) -> None:
    """All rows of a table are deleted and inserted again, in order or backwards, perhaps except one."""
    table = ("annotations", "images", "datasets", "labels", "projects")[b % 5]
    names = ", ".join(h.variant.columns[table])
    rows = h.db.execute(f"SELECT {names} FROM {table} ORDER BY id" + (" DESC" if a % 2 else ""))
    h.db.execute(f"DELETE FROM {table}")
    for row in rows[a % 3 // 2 :]:
        h.db.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", *row)


@on_a_row
def touch_nothing(h: History, a: int, b: int) -> None:
    """A row is written with the values it has."""
    table = ("annotations", "images", "datasets")[b % 3]
    h.db.execute(f"UPDATE {table} SET id = id WHERE id = ?", h.some(table, a))


@on_a_row
def work_elsewhere(h: History, a: int, b: int) -> None:
    """A table that is not mapped takes pages and gives them back."""
    if b % 3:
        h.db.execute("DELETE FROM dev_mode_settings")
    (last,) = h.db.execute("SELECT coalesce(max(id), 0) FROM dev_mode_settings")[0]
    h.insert("dev_mode_settings", id=last + 1, password_hash="\r\1\2"[a % 2 :] * (a % 4000))


@on_a_row
def move_file(h: History, a: int, b: int) -> None:
    """The file of an image moves, perhaps to the path of another one, or its size changes."""
    h.update("images", h.some("images", a), file_path=f"p{b % 3}/{b % 97}.jpg", height=(480, 481, 0, None)[b % 4])
