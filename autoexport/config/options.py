"""Declares the options of output formats."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a format. It becomes a field of `Settings`, and `DB_EXPORT_` + its name in capitals.

    `choices` are the allowed words of a text option. Without them, an option whose default is text takes any text
    that `check` does not refuse with ValueError. `meaning` describes it for an error message. A list is read as
    JSON. All other options are true or false.
    """

    name: str
    default: bool | str
    choices: tuple[str, ...] = ()
    meaning: str = ""
    check: Callable[[str], object] | None = None

    @property
    def allowed(self) -> str:
        """The allowed values in words, for an error message."""
        return self.meaning or (" or ".join(self.choices) if self.choices else "true or false")

    @property
    def free(self) -> bool:
        """Whether the option takes any text."""
        return isinstance(self.default, str) and not self.choices

    def text(self, value: object) -> str:
        """The value of a free option. Raises ValueError if it is not allowed."""
        text = json.dumps(value) if isinstance(value, list) else value
        if not isinstance(text, str):
            raise ValueError("not text")
        if self.check is not None:
            self.check(text)
        return text
