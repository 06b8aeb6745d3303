"""What the offline language takes an instruction to mean, among given things."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from affordagent.agent.language.understand import understand
from affordagent.core.errors import Refused, StageFailure


@dataclass(frozen=True)
class Verdict:
    """request: is a thing asked for, without a question being needed? meant: the best of the given things; None where
    none of them was thought of. best: of everything that the language knows."""

    request: bool
    meant: str | None
    best: str | None


def judged(text: str, among: Sequence[str]) -> Verdict:
    """How the offline language reads a text. among: categories it may mean."""
    try:
        query = understand(text)
    except (Refused, StageFailure):
        return Verdict(False, None, None)
    names = [candidate.name for candidate in query.candidates]
    request = query.wants_motion and not query.needs_clarification
    return Verdict(request, next((name for name in names if name in among), None), names[0] if names else None)
