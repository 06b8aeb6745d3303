"""Question-answer pairs of the published form: <1> an instruction, <2> an answer with the name and an action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Style = Literal[
    "template",  # the published templates about a named thing
    "easy",  # a purpose, with the name
    "hard",  # a purpose alone: neither the name, nor a synonym, nor what is made of the same word
]
STYLES: tuple[Style, ...] = get_args(Style)
MOST_WORDS = 50  # of a question and of an answer, as published


@dataclass(frozen=True)
class Instruction:
    """One pair. The answer is without the mask's token."""

    category: str
    style: Style
    question: str
    answer: str
