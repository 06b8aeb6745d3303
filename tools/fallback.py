"""Which tool gives the second opinion: the one that needs no training, or zero-shot detection."""

from __future__ import annotations

from affordagent.core.errors import AffordAgentError
from affordagent.tools.grounded_sam2 import GroundedSam2Tool
from affordagent.tools.tabletop import TabletopTool

GROUNDED_SAM2 = "grounded-sam2"


def open_fallback(fallback: str = "tabletop") -> TabletopTool | GroundedSam2Tool:
    """The tool that `fallback` names; its models are loaded by `load`.

    fallback: "tabletop", "grounded-sam2" for the hub's names in the local cache, or "grounded-sam2:DINO,SAM2" for two
    folders of weights (or hub names; DINO may be an original `.pth`).

    Raises:
        AffordAgentError: `fallback` is none of these.
    """
    kind, colon, places = fallback.partition(":")
    if fallback == "tabletop":
        return TabletopTool()
    if fallback == GROUNDED_SAM2:
        return GroundedSam2Tool()
    dino, comma, sam2 = (place.strip() for place in places.partition(","))
    if kind == GROUNDED_SAM2 and colon and dino and comma and sam2:
        return GroundedSam2Tool(dino, sam2)
    raise AffordAgentError(
        f"unknown fallback '{fallback}'; use tabletop, {GROUNDED_SAM2}, or {GROUNDED_SAM2}:DINO,SAM2 with two folders "
        "of weights (DINO may be an original .pth)"
    )
