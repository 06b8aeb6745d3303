"""Sentences that ask for a contact motion rather than a grasp: reach, push a button, slide, put a lid on.

Only the sentences of these tasks are read here; all else is for `understand`.
"""

from __future__ import annotations

import re
from typing import Literal

from affordagent.agent.language import details
from affordagent.agent.language.words import clean, tokens
from affordagent.core.types import Destination, FunctionalQuery

TaskKind = Literal["reach", "press", "slide", "close"]
_THE, _ADJECTIVES = r"(?:the|that|this|my|a)", r"(?:[a-z]+ ){0,3}?"
_BLOCK = rf"{_THE} (?P<thing>{_ADJECTIVES}(?:block|cube|brick))\b"
_TARGET = rf"{_THE} (?P<goal>{_ADJECTIVES}(?:target|square|patch|area))\b"
_JAR = rf"{_THE} (?P<goal>{_ADJECTIVES}jar)\b"
_BALL = rf"{_THE} (?P<thing>{_ADJECTIVES}(?:ball|sphere|target))\b"
_SENTENCES: tuple[tuple[TaskKind, str], ...] = (
    ("slide", rf"\b(?:slide|push|move|shove) {_BLOCK}.*?\b(?:to|on top of|onto|on|towards?|over|into) {_TARGET}"),
    ("slide", rf"\bcover {_TARGET} with {_BLOCK}"),
    ("press", rf"\b(?:push|press|hit)(?: down)?(?: on)? {_THE} (?P<thing>{_ADJECTIVES}button)\b"),
    ("reach", rf"\b(?:reach|touch|go to|move to)(?: for)? {_BALL}"),
    ("close", rf"\b(?:close|seal|shut) {_JAR}"),
    ("close", rf"\b(?:put|place|screw|pick up) {_THE} (?P<thing>lid)\b.*? on(?:to)? {_JAR}"),
    ("close", rf"\bscrew on {_JAR} lid\b"),
)
_NAMES = {"cube": "block", "brick": "block", "sphere": "ball", "square": "target", "patch": "target", "area": "target"}
_THINGS: dict[TaskKind, str] = {"reach": "ball", "press": "button", "slide": "block", "close": "lid"}


def understand_task(text: str) -> tuple[TaskKind, FunctionalQuery] | None:
    """The task that a sentence asks for, and its query; None where it asks for none of them.

    `object_words` is the thing to act on, `attributes` its colour; `destination` is what it is brought to. The intent
    is "place" where the thing ends somewhere else, "none" where it is only touched.

    Raises:
        StageFailure: language.empty, language.too_long.
    """
    lower = " ".join(tokens(clean(text).lower()))
    for kind, pattern in _SENTENCES:
        match = re.search(pattern, lower)
        if match is None:
            continue
        words = match.groupdict()
        thing = (words.get("thing") or _THINGS[kind]).split()
        destination = _destination(kind, (words.get("goal") or "").split())
        return kind, FunctionalQuery(
            text=text,
            intent="none" if destination is None else "place",
            object_words=_THINGS[kind] if kind == "reach" else _NAMES.get(thing[-1], thing[-1]),
            attributes=details.adjectives(thing),
            destination=destination,
        )
    return None


def _destination(kind: TaskKind, words: list[str]) -> Destination | None:
    if kind not in ("slide", "close"):
        return None
    noun = words[-1]
    return Destination(relation="on", words=_NAMES.get(noun, noun), attributes=details.adjectives(words))
