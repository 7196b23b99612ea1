"""What the package asks for leaves room for what an application has already."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
USUAL_PINS = (
    "SQLAlchemy<2.1", "aiosqlite<0.21", "asyncpg<0.31", "aiofiles<24", "structlog<25", "pydantic<2.11",
    "pydantic-settings<2.7", "click<8.2", "rich<14", "watchfiles<1", "orjson<3.11", "xxhash<3.5",
)  # fmt: skip
"""Of applications that are two years older than the newest releases."""


def floors() -> dict[str, str]:
    """The lowest version of each dependency, optional ones too; no other kind of bound is there."""
    found = {}
    extras = PROJECT["optional-dependencies"]
    optional = [line for name in ("metrics", "object-store", "lake") for line in extras[name]]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *optional]):
        (bound,) = requirement.specifier
        assert bound.operator == ">="
        found[canonicalize_name(requirement.name)] = bound.version
    return found


def test_the_lowest_versions_are_tested() -> None:
    """The constraints that `.ci/run` installs are the lower bounds: the same packages, the same versions."""
    lines = (REPOSITORY / ".ci" / "lowest.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    assert {canonicalize_name(name): version for name, version in pins} == floors()


@pytest.mark.parametrize("pin", USUAL_PINS)
def test_a_usual_pin_is_accepted(pin: str) -> None:
    """A version that is below the pin is allowed."""
    requirement = Requirement(pin)
    assert requirement.specifier.contains(floors()[canonicalize_name(requirement.name)])
