"""The documents agree with the program and with each other: tables, layout, links, paths and words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import autoexport
from autoexport import AutoexportError, Settings
from autoexport.cli import cli
from autoexport.errors import ConfigurationError
from autoexport.formats import file_names
from autoexport.publishing.manifest import BESIDE_NAMES
from tests.acceptance.layout import layout
from tests.acceptance.readme import (
    BENCH,
    CODE,
    CONFIG,
    DOCUMENTS,
    EXAMPLE,
    FORMATS,
    README,
    SYSTEMD,
    export_of,
    load,
    prose,
    repository_files,
    section,
    table,
)
from tests.conftest import REPOSITORY

WORDS = (
    "whoever",
    "somebody",
    r"""(?<!["'])nobody(?!["'])""",  # the account of this name is written in quotes
    r"to[\s#]+be[\s#]+had",
    "anew",
    r"reckon\w*",
    "befits",
)
"""Patterns of words that plain English does without."""

BANNED = re.compile(rf"\b(?:{'|'.join(WORDS)})\b", re.IGNORECASE)

WORDED = {
    "documents": (".md",),
    "code": (".py",),
    "configuration": (".toml", ".yaml", ".service", ".timer", ".example", "run"),
}
"""The files whose words are looked at, by the end of their names."""


# --- commands ------------------------------------------------------------------------------------


def test_the_commands_and_options_are_the_real_ones() -> None:
    """The README names every command; the documents name every option, and the README no other."""
    told = section("## Commands and exit codes", README)
    assert set(re.findall(r"`python -m autoexport ([a-z][a-z-]*)", told)) == set(cli.commands)
    parameters = [parameter for command in (cli, *cli.commands.values()) for parameter in command.params]
    names = {"--help", *(name for parameter in parameters for name in parameter.opts)}
    options = {name for name in names if name.startswith("--")}
    assert set(re.findall(r"--[a-z][a-z-]+", told)) <= options
    assert set(re.findall(r"--[a-z][a-z-]+", "".join(DOCUMENTS.values()))) >= options


def test_the_exit_codes_are_the_real_ones() -> None:
    """The table has the codes of the errors, of success and of `verify`."""
    told = re.findall(r"^\| (\d+) \|", section("## Commands and exit codes", README), re.MULTILINE)
    assert told == ["0", str(AutoexportError.exit_code), str(ConfigurationError.exit_code), "3"]


# --- tables --------------------------------------------------------------------------------------


def test_the_settings_table_is_complete() -> None:
    """Every setting is in the table, with its environment variable and its default."""
    rows = table("## The settings", CONFIG)
    told = {name.strip("`"): (variable, default) for name, variable, default, _ in rows}
    assert sorted(told) == sorted(Settings.model_fields)
    assert len(rows) == len(told)
    for name, field in Settings.model_fields.items():
        variable, default = told[name]
        assert variable == (f"`DB_EXPORT_{name.upper()}`" if name != "tables" else "only in the file")
        if isinstance(field.default, bool):
            assert default == f"`{str(field.default).lower()}`"
        elif isinstance(field.default, int):
            assert default == f"`{field.default}`"
        elif isinstance(field.default, float):
            assert default == f"`{field.default:g}`"
        elif field.default and name != "tables":
            assert default == f"`{field.default}`" or str(field.default) in default


def test_the_everyday_settings_are_some_of_all() -> None:
    """The README's rows say of a setting what the whole table says, and how many there are."""
    everything = [row[:3] for row in table("## The settings", CONFIG)]
    everyday = [row[:3] for row in table("## Everyday settings", README)]
    assert everyday
    assert [row for row in everyday if row not in everything] == []
    assert f"All {len(everything)} settings" in section("## Everyday settings", README)


def test_the_manifest_table_is_complete(tmp_path: Path) -> None:
    """Every key of manifest.json is explained, and no other."""
    manifest = load(export_of(EXAMPLE, tmp_path) / "manifest.json")
    cells = [row[0] for row in table("## manifest.json", FORMATS)]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == manifest.keys()


def test_the_files_are_the_same_in_both_tables() -> None:
    """The README and autoexport/formats/README.md name the files that are written."""
    for rows in (table("## The files", README), table("# The files", FORMATS)):
        assert [row[0] for row in rows] == [
            f"`{name}`" for name in (*file_names(), *BESIDE_NAMES, "manifest.json")
        ]


def test_the_performance_figures_are_measured_ones() -> None:
    """Every figure of the README's table is in tests/bench/README.md."""
    rows = table("## Performance", README)
    assert len(rows) == 5
    figures = [cell for row in rows for cell in row[1:]]
    measured = set(re.findall(r"(?<= )[\d.,]+(?= )", DOCUMENTS[BENCH]))
    assert [figure for figure in figures if figure not in measured] == []


def test_the_packages_are_the_real_ones() -> None:
    """Both tables of packages have the same rules, and the packages that there are."""
    rows = [row[:2] for row in table("## The packages", CODE)]
    assert table("## The code and its tests", README) == rows
    packages = {path.parent.name for path in (REPOSITORY / "autoexport").glob("*/__init__.py")}
    assert {name.strip("`/") for name, _ in rows} == packages


def test_the_layout_is_the_tree() -> None:
    """Every module is in the layout with the first sentence of its docstring, and nothing else is."""
    assert layout() in DOCUMENTS[CODE], "update it with: python -m tests.acceptance.layout --write"


def test_the_public_names_are_told() -> None:
    """The names that other programs may import are in the document of the code."""
    told = set(re.findall(r"`(\w+)`", DOCUMENTS[CODE].partition("## ")[0])) - {"autoexport"}
    assert told == {name for name in autoexport.__all__ if not name.startswith("__")}


def test_the_units_are_those_that_are_installed() -> None:
    """The commands of systemd/README.md install every unit and the settings, and name no other file."""
    told = section("## Install", SYSTEMD)
    copied = set(re.findall(r"systemd/(autoexport\S*)", told))
    container = {"Dockerfile", "Dockerfile.dockerignore", "compose.yaml"}
    loaded = {"autoexport-alerts.yaml", "autoexport-dashboard.json", "autoexport-kubernetes.yaml"}
    files = {path.name for path in (REPOSITORY / "systemd").iterdir() if path.is_file()}
    assert copied == files - {"README.md", *container, *loaded}
    assert {name for name in loaded if f"`systemd/{name}`" in DOCUMENTS[SYSTEMD]} == loaded
    told = section("## Docker", SYSTEMD)
    assert {name for name in container if f"systemd/{name}" in told} == container
    units = "".join(path.read_text() for path in (REPOSITORY / "systemd").glob("*.service"))
    for path in ("/opt/autoexport/bin/", "/etc/autoexport/autoexport.env", "User=autoexport\n"):
        assert path in units


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_fill_in(document: str) -> None:
    """No table of a document waits for its figures."""
    assert "FILL" not in DOCUMENTS[document]


# --- links and paths -----------------------------------------------------------------------------


def _anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    """A relative link names a file of the repository, and its anchor a heading of that file."""
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = ((REPOSITORY / document).parent / path).resolve() if path else REPOSITORY / document
        linked = place.relative_to(REPOSITORY).as_posix()
        if not place.exists() or (anchor and anchor not in _anchors(linked)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.endswith("README.md")])
def test_every_path_that_is_named_is_there(document: str) -> None:
    """A path in code letters that begins with a folder of the repository is one of its files or folders."""
    code = " ".join(re.findall(r"`([^`\n]+)`", prose(document)))
    paths = re.findall(r"(?<![\w/.])(?:autoexport|tests|systemd)/[\w./@-]*", code)
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", WORDED)
def test_the_words_are_plain(kind: str) -> None:
    """No document, no code and no comment has one of the words on the list."""
    found: list[str] = []
    for path in repository_files():
        if path.name.endswith(WORDED[kind]) and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8")
            for match in BANNED.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{path.relative_to(REPOSITORY)}:{line}: {match[0]}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("Whoever asks", True),
        ("there is none to be\n    # had", True),
        ("nobody waits", True),
        ("it was reckoned", True),
        ('getpwnam("nobody")', False),
        ("beckon, canewood, a nobody_else", False),
    ],
)
def test_whole_words_are_banned(text: str, banned: bool) -> None:
    """Whole words, in any case and across lines; not parts of words, and not the account."""
    assert bool(BANNED.search(text)) is banned
