"""Words of persons, models and files, made fit to be shown."""

from __future__ import annotations

import unicodedata

LONGEST = 600  # characters that are shown of a text


def shown(text: str, longest: int = LONGEST) -> str:
    """The text without what would garble a page: control characters become U+FFFD, invisible ones (which turn the
    direction of writing, for one) are left out, and what is longer than `longest` characters is cut and says so."""
    cut = text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
    return "".join(_plain(c) for c in cut)


def _plain(character: str) -> str:
    if character == "\n" or character.isprintable():
        return character
    kind = unicodedata.category(character)
    return " " if kind.startswith("Z") or character == "\t" else "" if kind == "Cf" else "\N{REPLACEMENT CHARACTER}"
