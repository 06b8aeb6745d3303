"""The tools that ground without being trained for it, by the names that settings give them: `fallback`, and `vlm`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import FunctionalQuery, PartMask, RgbdFrame, TableScene
from affordagent.tools.detection import DINO
from affordagent.tools.florence2 import FLORENCE, Florence2Tool
from affordagent.tools.grounded_sam2 import GroundedSam2Tool
from affordagent.tools.segmenter import SAM2
from affordagent.tools.tabletop import TabletopTool
from affordagent.tools.vlm_pointing import PointingTool

ZeroShotTool = TabletopTool | GroundedSam2Tool | Florence2Tool | PointingTool


@dataclass(frozen=True)
class Row:
    """A tool and how settings name it. places: how many may follow its name after a colon, parted by commas. hub: the
    weights that its name alone stands for."""

    open: Callable[..., ZeroShotTool]
    places: tuple[int, ...]
    usage: str
    hub: tuple[str, ...] = ()


ROWS = {
    "tabletop": Row(TabletopTool, (0,), "tabletop"),
    "grounded-sam2": Row(GroundedSam2Tool, (0, 2), "grounded-sam2[:DINO,SAM2]", (DINO, SAM2)),
    "florence2": Row(Florence2Tool, (0, 1, 2), "florence2[:FLORENCE[,SAM2]]", (FLORENCE,)),
    "pointing": Row(PointingTool, (2, 3), "pointing:URL,MODEL[,SAM2]"),
}
CHOICES = ", ".join(row.usage for row in ROWS.values())
NONE = "none"


class NoFallback:
    """No second opinion: what the first tool says stands or falls alone."""

    def load(self) -> None:
        """There is nothing to load."""

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        raise StageFailure("ground", "grounding.not_found", "the settings say fallback = none: nobody else is asked")


def open_fallback(fallback: str = "tabletop") -> ZeroShotTool | NoFallback:
    """The tool that `fallback` names; its models are loaded, or its server asked, by `load`.

    fallback: one of `CHOICES`, or "none": nobody is asked. DINO, FLORENCE and SAM2 are folders of weights or the hub's
    names in the local cache, as by default; DINO may be an original `.pth`, SAM2 one of Meta's `.pt`. URL is that of an
    OpenAI-compatible API, whose key comes from the environment variable AFFORDAGENT_LLM_KEY.

    Raises:
        AffordAgentError: `fallback` is none of these.
    """
    if fallback == NONE:
        return NoFallback()
    row, places = row_of(fallback)
    return row.open(*places)


def row_of(fallback: str) -> tuple[Row, list[str]]:
    """The row that a setting names, and the places after the colon.

    Raises:
        AffordAgentError: no such row, or another number of places.
    """
    kind, colon, listed = fallback.partition(":")
    places = [place.strip() for place in listed.split(",")] if colon else []
    row = ROWS.get(kind)
    if row is None or len(places) not in row.places or not all(places):
        raise AffordAgentError(f"'{fallback}' is not understood; use one of {CHOICES} (docs/perception.md)")
    return row, places


def is_zero_shot(name: str) -> bool:
    """Does a setting name one of these tools?"""
    return name.partition(":")[0] in ROWS
