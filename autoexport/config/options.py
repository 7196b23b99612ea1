"""Declares the options of output formats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a format. It becomes a field of `Settings`, and `DB_EXPORT_` + its name in capitals.

    `choices` are the allowed words of a text option; an option without choices is true or false.
    """

    name: str
    default: bool | str
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """The allowed values in words, for an error message."""
        return " or ".join(self.choices) if self.choices else "true or false"
