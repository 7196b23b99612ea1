"""The layout in autoexport/README.md: every module of the package with the first sentence of its docstring.

python -m tests.acceptance.layout            prints the block
python -m tests.acceptance.layout --write    puts it into autoexport/README.md
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "autoexport"
DOCUMENT = PACKAGE / "README.md"
BLOCK = re.compile(r"```text\nautoexport/ .*?```\n", re.DOTALL)
WIDTH = 117


def layout() -> str:
    """The tree as a fenced block: in each folder the modules, then the packages, by name."""
    rows = [("autoexport/", _sentence(PACKAGE / "__init__.py")), *_rows(PACKAGE, "  ")]
    column = max(len(name) for name, _ in rows) + 2
    lines = [
        textwrap.fill(sentence, WIDTH, initial_indent=name.ljust(column), subsequent_indent=" " * column)
        for name, sentence in rows
    ]
    return "\n".join(["```text", *lines, "```", ""])


def _rows(folder: Path, indent: str) -> Iterator[tuple[str, str]]:
    for module in sorted(folder.glob("*.py")):
        if module.name != "__init__.py":
            yield indent + module.name, _sentence(module)
    for package in sorted(path for path in folder.iterdir() if path.is_dir()):
        if any(package.rglob("*.py")):
            yield f"{indent}{package.name}/", _sentence(package / "__init__.py")
            yield from _rows(package, indent + "  ")


def _sentence(module: Path) -> str:
    """The first paragraph of a module's docstring, without the full stop."""
    source = module.read_text(encoding="utf-8") if module.exists() else ""
    docstring = ast.get_docstring(ast.parse(source)) or "(no docstring)"
    return " ".join(docstring.split("\n\n")[0].split()).rstrip(".").replace("`", "")


def main() -> None:
    """Print the block, or write it into the document."""
    if sys.argv[1:] == ["--write"]:
        text, found = BLOCK.subn(lambda _: layout(), DOCUMENT.read_text(encoding="utf-8"))
        assert found == 1, f"{DOCUMENT} has {found} layouts instead of one"
        DOCUMENT.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(layout())


if __name__ == "__main__":
    main()
