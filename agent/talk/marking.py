"""A turn by which a person marks the part to hold in the picture of a run, instead of naming it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from affordagent.agent.talk.reading import Understand
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, Mask, PaintedMask
from affordagent.graphs.by_hand import pointed_at, read_pointing
from affordagent.graphs.dialogue import Act, TalkState

INSTEAD_OF_WORDS = "Take it by the part that I marked."
MOSTLY = 0.5  # share of the mask on the thing that the run took, from which the same thing is meant


@dataclass(frozen=True)
class Marked:
    """painted: the mask and its picture. wish: what the run was to do. same_thing: does the mask lie on the thing that
    the run was about?"""

    painted: PaintedMask
    wish: FunctionalQuery
    same_thing: bool


def read_marked(run: Path, mask: Mask) -> Marked:
    """A mask (H, W) bool in the picture of a run.

    Raises:
        AffordAgentError: the run saw nothing, or the mask is empty or of another size.
    """
    store = RunStore(run)
    try:
        painted = PaintedMask(mask, store.get("frame"))
    except ValueError as error:
        raise AffordAgentError(f"this mask cannot be used: {error}") from error
    part = store.readable("part_mask")
    same = part is not None and bool((mask & part.object_mask).sum() > MOSTLY * mask.sum())
    return Marked(painted, store.get("query"), same)


def acts_of(marked: Marked, text: str, state: TalkState, understand: Understand) -> list[Act]:
    """What the turn asks for. text: what to do with the part, empty = what the run was to do.

    Raises:
        StageFailure: what the language stage refuses.
    """
    held = state.get("held")
    if held is not None:
        return [{"do": "say", "text": "My hand is full. Have me put that down first, then mark the part once more."}]
    wish = marked.wish
    if wish.destination is not None and wish.destination.relation == "back":  # of a run that put something back
        wish = wish.model_copy(update={"intent": "pick", "destination": None})
    pointed = read_pointing(text, understand) if text else pointed_at(wish)
    if not pointed.wants_motion or pointed.needs_clarification:
        return [{"do": "say", "text": pointed.question or "What shall I do with the part that you marked?"}]
    if marked.same_thing and not text:  # so it can be spoken of by its name later
        pointed = wish.model_copy(update={"part": None})
    return [{"do": "grasp", "query": pointed.model_dump(mode="json")}]
