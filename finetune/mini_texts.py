"""Training texts with what they mean, drawn from a pool small enough that every encoding is kept."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np

from affordagent.finetune.phrases import Style, phrases, sample_text

PART_QUERY = "the part to hold"
PART_OF, WHOLE_OF = "the part to hold: {}", "the whole thing: {}"  # when no query of its own stands for the part
STYLES: tuple[Style, ...] = ("template", "easy", "hard")
STYLE_SHARES = (0.4, 0.2, 0.4)
VARIANTS = 3  # texts a category, colour, part, style and ambiguity; functional phrases alone are all used


@dataclass(frozen=True)
class Text:
    """words: what is said; categories: all it may mean; colour: the colour it names, if any."""

    words: str
    categories: frozenset[str]
    colour: str | None

    def means(self, category: str, colour: str) -> bool:
        return category in self.categories and self.colour in (None, colour)


class TextPool:
    """The training texts of every category, in three styles."""

    def __init__(self, shares: tuple[float, float, float] = STYLE_SHARES) -> None:
        """shares: of the STYLES."""
        self.shares = shares
        self.categories = tuple(phrases()["train"])
        self._meaning: dict[str, set[str]] = {}  # functional phrase -> categories
        for category, sentences in phrases()["train"].items():
            for sentence in sentences:
                self._meaning.setdefault(sentence, set()).add(category)

    def draw(self, rng: np.random.Generator, category: str, colour: str, part: str | None) -> Text:
        """A text that means an object of `category` in `colour`; it names the colour about half of the time."""
        style = STYLES[int(rng.choice(3, p=self.shares))]
        ambiguous = bool(rng.random() < 0.35)
        if style == "hard" and not ambiguous:
            phrase = sample_text(rng, category, colour, part, False, "train", style)
            return Text(phrase, frozenset(self._meaning[phrase]), None)
        key = f"{category} {colour} {part} {style} {ambiguous} {int(rng.integers(VARIANTS))}"
        own = np.random.default_rng(zlib.crc32(key.encode()))
        words = sample_text(own, category, colour, part, ambiguous, "train", style)
        named = re.search(rf"\b{colour}\b", words)
        return Text(words, frozenset({category}), colour if named else None)
