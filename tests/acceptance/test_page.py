"""index.html in a real browser: no message, no request, nothing executed, readable at every width."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.applications import create_sqlite, fill_sqlite
from tests.trials import Trial

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WIDTHS = (375, 1024, 1920)
HOSTILE = (
    "<script>document.title = 'executed'</script>", "</style><script>document.title = 'executed'</script>",
    "</script><img src=http://127.0.0.1:9/x onerror=\"document.title='executed'\">", "\" onmouseover=\"alert(1)",
    "' style='color:red", "שלום עולם", "\u202eevil txt.exe", "😀🚀", "x" * 3_000, "line\nend\ttab", "&lt;b&gt;",
    "{{progress}}", "-->", "javascript:alert(1)", "", " ", "\x01\x1b[31m", "null",
)  # fmt: skip
TIME = "2025-01-01 10:00:00"


def fill(path: Path, projects: list[str], datasets: list[str], labels: list[str]) -> None:
    """A database with these names: each dataset has some images, and each label some annotations."""
    create_sqlite(path).close()
    with closing(sqlite3.connect(path)) as database:
        parents = [(number, name, TIME, TIME) for number, name in enumerate(projects)]
        database.executemany(
            "INSERT INTO projects (id, name, created_at, updated_at) VALUES (?, ?, ?, ?)", parents
        )
        below = [(f"{index:05}", name, index % len(projects), TIME, TIME) for index, name in enumerate(datasets)]
        database.executemany(
            "INSERT INTO datasets (id, name, project_id, created_at, updated_at) VALUES (?, ?, ?, ?, ?)", below
        )
        colors = ("#12ab9F", "red;}</style>", '"><script>', None)
        own = [(index, name, colors[index % 4], index % len(projects)) for index, name in enumerate(labels)]
        database.executemany("INSERT INTO labels (id, name, color, project_id) VALUES (?, ?, ?, ?)", own)
        images = annotations = 0
        for index in range(len(datasets)):
            for number in range(3 + index % 5):
                images += 1
                database.execute(
                    "INSERT INTO images (id, filename, dataset_id, width, height, split_section, is_labeled, "
                    "is_verified, original_filename, file_path, file_size, format, is_auto_labeled, created_at, "
                    "updated_at) VALUES (?, 'a.jpg', ?, 640, ?, ?, ?, ?, 'a', 'a', 1, 'JPEG', 0, ?, ?)",
                    (
                        f"{images:06}",
                        f"{index:05}",
                        480 if number else None,
                        ("train", "val", None)[number % 3 if index % 2 else 0],
                        number % 2,
                        number % 4 == 1,
                        TIME,
                        TIME,
                    ),
                )
                for _ in range(number):
                    annotations += 1
                    label = (annotations * annotations + index) % len(labels)
                    database.execute(
                        "INSERT INTO annotations (id, image_id, class_name, class_id, x_min, y_min, x_max, y_max) "
                        "VALUES (?, ?, ?, ?, 1, 1, 9, 9)",
                        (f"{annotations:06}", f"{images:06}", labels[label], label),
                    )
        database.commit()


def age_by_days(directory: Path, days: int) -> None:
    """Make the history of an export older."""

    def older(found: re.Match[str]) -> str:
        aged = datetime.fromisoformat(found[1] + " " + found[3]) - timedelta(days=days)
        return f"{aged:%Y-%m-%d}{found[2]}{aged:%H:%M:%S}Z"

    for name in ("history.csv", "progress.jsonl"):
        text = (directory / name).read_text(encoding="utf-8")
        text = re.sub(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)Z", older, text)
        (directory / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The export directories of three databases."""
    folder = tmp_path_factory.mktemp("pages")
    create_sqlite(folder / "sample.sqlite3").close()
    with closing(sqlite3.connect(folder / "sample.sqlite3")) as database:
        fill_sqlite(database, orphans=True)
        database.commit()
    many = [f"name {number:03}" for number in range(500)]
    fill(folder / "many.sqlite3", many[:7], many[:300], many)
    fill(folder / "hostile.sqlite3", [*HOSTILE[:3]], [*HOSTILE], [*HOSTILE])
    found = {}
    for name in ("sample", "many", "hostile"):
        trial = Trial(str(folder / f"{name}.sqlite3"), folder / name, export_coco=False)
        trial.export()
        age_by_days(trial.directory, 8)
        with closing(sqlite3.connect(folder / f"{name}.sqlite3")) as database:
            database.execute("UPDATE images SET is_verified = 1, is_labeled = 1")
            database.commit()
        trial.export()
        found[name] = trial.directory
    return found


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser for one test: no process may outlive it."""
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-breakpad", "--disable-crash-reporter"]
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


@contextmanager
def opened(
    browser: Any, address: str, width: int = 1024, scheme: str = "light"
) -> Iterator[tuple[Any, list[str]]]:
    """A page, and what it did: messages, dialogs, and requests beside its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    try:
        page, seen = context.new_page(), []
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("dialog", lambda dialog: seen.append(f"dialog: {dialog.message}"))
        page.on(
            "request",
            lambda request: (
                seen.append(f"request: {request.url}")
                if request.url != address and not request.url.startswith("data:")
                else None
            ),
        )
        page.goto(address)
        yield page, seen
    finally:
        context.close()


def address_of(directory: Path) -> str:
    return (directory / "index.html").as_uri()


@pytest.mark.parametrize("name", ["sample", "many", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_quiet_and_fits(exports: dict[str, Path], browser: Any, name: str, scheme: str) -> None:
    """No message, no request, nothing executed, and no horizontal scroll, folded or not."""
    for width in WIDTHS:
        with opened(browser, address_of(exports[name]), width, scheme) as (page, seen):
            title = page.title()
            for button in page.query_selector_all("button.unfold"):
                button.click()
            page.hover("main")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.title() == title == f"{name}.sqlite3: labelling progress"
            assert page.evaluate("document.scripts.length") == 1
            assert page.evaluate("document.images.length") == 0
            assert seen == []


def test_a_page_is_small_whatever_the_database(exports: dict[str, Path]) -> None:
    """At most a few hundred kilobytes, and it says how much is left out."""
    text = (exports["many"] / "index.html").read_text()
    assert len(text.encode()) < 400_000
    assert "and 100 more datasets" in text
    assert len((exports["hostile"] / "index.html").read_bytes()) < 150_000


def test_hostile_names_are_shown_as_they_are(exports: dict[str, Path], browser: Any) -> None:
    """The text of the page is the text of the names."""
    with opened(browser, address_of(exports["hostile"])) as (page, _):
        shown = page.evaluate("Array.from(document.querySelectorAll('tbody th bdi'), (name) => name.textContent)")
        for name in HOSTILE:
            if name.strip() and len(name) < 120 and name.isprintable():
                assert name in shown
        assert page.evaluate("document.querySelectorAll('tbody bdi *').length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(exports: dict[str, Path], browser: Any, scheme: str) -> None:
    """Each text has at least 4.5 times the luminance of what is behind it, or the reverse (WCAG 2.2, 1.4.3)."""
    script = """() => {
      const parts = (text) => text.match(/[\\d.]+/g).map(Number);
      const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
        .reduce((sum, c, index) => sum + c * [.2126, .7152, .0722][index], 0);
      const behind = (element) => {
        for (; element; element = element.parentElement) {
          const color = parts(getComputedStyle(element).backgroundColor);
          if (color.length < 4 || color[3] === 1) return color;
        }
        return [255, 255, 255];
      };
      const low = new Set();
      for (const element of document.querySelectorAll("body *:not(script):not(svg *)")) {
        const own = Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.getClientRects().length) continue;
        const [a, b] = [luminance(parts(getComputedStyle(element).color)), luminance(behind(element))];
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) low.add(element.tagName + "." + element.className + " " + ratio.toFixed(2));
      }
      return [...low];
    }"""
    for name in ("sample", "many"):
        with opened(browser, address_of(exports[name]), 1024, scheme) as (page, _):
            assert page.evaluate(script) == []


def test_tables_sort_and_filter_by_keyboard(exports: dict[str, Path], browser: Any) -> None:
    """A head is reached by Tab and sorts by Enter; the filter keeps the rows that have every word."""
    with opened(browser, address_of(exports["many"])) as (page, seen):
        cells = "document.querySelectorAll('table.datasets tbody td[data-v]:nth-of-type(2)')"
        column = f"Array.from({cells}, (cell) => +cell.dataset.v)"
        original = page.evaluate(column)
        reached = page.evaluate("document.querySelector('table.datasets thead th.n button').tabIndex")
        assert reached == 0
        for expected in (sorted(original, reverse=True), sorted(original), original):
            page.focus("table.datasets thead th.n button")
            page.keyboard.press("Enter")
            assert page.evaluate(column) == expected
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        page.fill("#filter", "NAME 007")
        visible = page.evaluate(
            "Array.from(document.querySelectorAll('tbody tr')).filter((row) => row.getClientRects().length)"
            ".map((row) => row.textContent)"
        )
        assert visible
        assert all("name 007" in text for text in visible)
        assert page.text_content("#hits") == f"{len(visible)} rows" if len(visible) > 1 else "1 row"
        assert seen == []


def test_tables_tell_what_came_since(exports: dict[str, Path], browser: Any) -> None:
    """Labelled images of each project and dataset since yesterday and last week, which add up to those of all."""
    for name in ("sample", "hostile"):
        with opened(browser, address_of(exports[name])) as (page, seen):
            gains = "(rows) => rows.map((row) => [3, 4].map((index) => +row.cells[index].dataset.v))"
            rows = page.eval_on_selector_all("table.datasets tbody tr", gains)
            told = page.eval_on_selector_all(".changes b", "(all) => all.map((one) => +one.textContent)")
            assert [sum(column) for column in zip(*rows, strict=True)] == told
            assert told[0] > 0
            heads = page.eval_on_selector_all("table.projects th.n", "(all) => all.map((one) => one.textContent)")
            assert heads[1:3] == ["Last day", "Last week"]
            assert seen == []


@pytest.mark.parametrize("name", ["sample", "many", "hostile"])
def test_a_printed_page_fits_the_sheet(exports: dict[str, Path], browser: Any, name: str) -> None:
    """A4 with the margins of the style sheet is 182 mm wide: nothing is cut off, and no control is printed."""
    with opened(browser, address_of(exports[name]), width=688) as (page, seen):
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= 688
        assert not page.is_visible("nav")
        assert page.locator("button.unfold:visible").count() == 0
        assert len(page.pdf(format="A4", prefer_css_page_size=True)) > 10_000
        assert seen == []


@pytest.mark.parametrize("width", [375, 700, 1024, 1920])
def test_large_counts_fit_their_tiles(exports: dict[str, Path], browser: Any, width: int) -> None:
    """Up to hundreds of millions, at every width."""
    with opened(browser, address_of(exports["sample"])) as (page, _):
        page.set_viewport_size({"width": width, "height": 900})
        too_wide = """() => {
            document.querySelectorAll(".tiles dd")[3].textContent = "128,100,000";
            const cells = [...document.querySelectorAll(".tiles dd")];
            return cells.filter((cell) => cell.scrollWidth > cell.clientWidth).length;
        }"""
        assert page.locator(".tiles dd").count() == 7
        assert page.evaluate(too_wide) == 0


def test_ages_are_computed_by_the_script_alone(exports: dict[str, Path], browser: Any) -> None:
    """The file has the time of the snapshot; a reader sees its age."""
    text = (exports["sample"] / "index.html").read_text()
    assert "just now" not in text.partition("<script>")[0]
    timestamp = json.loads((exports["sample"] / "manifest.json").read_bytes())["timestamp"]
    assert f'<time datetime="{timestamp}">' in text
    with opened(browser, address_of(exports["sample"])) as (page, _):
        assert re.search(r"\((just now|\d+ minutes? ago)\)", page.text_content(".stamp"))


def test_without_scripts_everything_is_there(exports: dict[str, Path], browser: Any) -> None:
    """The page is complete without its script: rows, bars, links."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address_of(exports["many"]))
    assert page.locator("table.datasets tbody tr:visible").count() == 200
    assert page.locator("#files a").count() >= 4
    context.close()


def test_it_notices_a_new_generation_over_http(exports: dict[str, Path], browser: Any, tmp_path: Path) -> None:
    """It asks for the manifest of its own origin and for nothing else. A reader who is busy gets a notice."""
    shutil.copytree(exports["sample"], tmp_path / "served")
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/index.html"
        context = browser.new_context()
        page = context.new_page()
        page.clock.install()
        page.goto(address)
        with page.expect_response("**/manifest.json"):
            page.clock.run_for(16_000)
        assert page.is_hidden(".newer")
        manifest = tmp_path / "served" / "manifest.json"
        content = json.loads(manifest.read_bytes())
        written_s = manifest.stat().st_mtime

        def publish(generation: int) -> None:
            """All within one second: the server compares whole seconds, the page must not."""
            manifest.write_text(json.dumps({**content, "generation": generation}))
            os.utime(manifest, (written_s, written_s))

        publish(content["generation"] + 1)
        with page.expect_navigation():  # A reader who has done nothing gets the new page.
            page.clock.run_for(16_000)
        page.wait_for_load_state()
        asked_again = asked.count("/index.html")
        page.clock.run_for(16_000)  # A cache may still have the old page: it is asked for once only.
        page.wait_for_selector(".newer:visible")
        assert asked.count("/index.html") == asked_again == 2
        publish(content["generation"] + 2)
        page.reload()
        page.keyboard.press("Shift")
        page.clock.run_for(16_000)
        page.wait_for_selector(".newer:visible")
        assert f"Generation {content['generation'] + 2}" in page.text_content(".newer")
        context.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert set(asked) == {"/index.html", "/manifest.json"}
