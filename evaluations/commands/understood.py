"""What language alone makes of a set of commands: no scene, no robot."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import Refused
from affordagent.core.lexicon import lexicon
from affordagent.core.types import FunctionalQuery
from affordagent.evaluations.commands.command import Command, CommandGold, Expected
from affordagent.evaluations.commands.distance import style_distances
from affordagent.evaluations.statistics import rate

Understand = Callable[[str], FunctionalQuery]


def understood(commands: Sequence[Command], understand: Understand) -> dict[str, Any]:
    """Rates with Wilson intervals, and the misses.

    Grasps are right when the likeliest candidate is of the gold's categories: in all, English texts apart by whether a
    name is said and whether they lie outside the training style, and among the first three. "ask" and "refuse": right
    when the answer is that, "not moving" when it is either. Left out: what only a scene can tell (commands of one
    scene, things that are not there).
    """
    counts: dict[str, list[bool]] = defaultdict(list)
    misses = []
    texts = [command.text for command in commands]
    for command, distance in zip(commands, style_distances(texts), strict=True):
        if command.simulated is not None or (command.gold is None and command.absent):
            continue
        deed, names = _answer(command.text, understand)
        if isinstance(command.gold, CommandGold):
            right = deed == "grasp" and _among(names[:1], command.gold)
            for kind in _kinds(command, command.gold, distance.outside):
                counts[kind].append(right)
            counts["grasp, first three"].append(deed == "grasp" and _among(names[:3], command.gold))
        else:
            right = deed == command.expected
            counts[command.expected].append(right)
            counts[f"{command.expected}, not moving"].append(deed != "grasp")
        if not right:
            misses.append({"id": command.id, "text": command.text, "answer": deed, "names": names[:3]})
    return {"rates": {name: rate(sum(of), len(of)) for name, of in sorted(counts.items())}, "misses": misses}


def _answer(text: str, understand: Understand) -> tuple[Expected, list[str]]:
    """What would be done, and the candidates' names, best first."""
    try:
        query = understand(text)
    except Refused:
        return "refuse", []
    names = [candidate.name for candidate in query.candidates]
    if query.needs_clarification:
        return "ask", names
    return ("grasp" if query.wants_motion else "refuse"), names


def _among(names: Sequence[str], gold: CommandGold) -> bool:
    return bool(set(names) & set(gold.categories))


def _kinds(command: Command, gold: CommandGold, outside: bool) -> list[str]:
    if command.language.split("-")[0] != "en":
        return ["grasp", "grasp, other languages"]
    said = "named" if _is_named(command.text, gold) else "not named"
    style = "outside" if outside else "inside"
    return ["grasp", "grasp, English", f"grasp, English, {said}", f"grasp, English, {style} the training style"]


def _is_named(text: str, gold: CommandGold) -> bool:
    """Whether a name of the thing, or one that may mean it, is in the text as it is spelled."""
    names: set[str] = set(gold.categories)
    for category in gold.categories:
        if category in catalogue():
            names |= {*catalogue()[category].names, *catalogue()[category].generic}
        elif category in lexicon():
            names |= set(lexicon()[category].names)
    return any(re.search(rf"\b{re.escape(name)}(?:s|es)?\b", text.lower()) for name in names)
