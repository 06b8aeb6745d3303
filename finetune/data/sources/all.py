"""The sources by the name they have on the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from affordagent.finetune.data.sources import (
    coco,
    egoobjects,
    graspnet,
    handal,
    labelme,
    lerobot,
    openx,
    photos,
    rlbench,
    runs,
    simulated,
    threedoi,
)
from affordagent.finetune.data.sources.found import Found, Take

SOURCES: dict[str, Callable[[Path, Take], Iterator[Found]]] = {
    "handal": handal.rows,
    "openx": openx.rows,
    "lerobot": lerobot.rows,
    "graspnet": graspnet.rows,
    "egoobjects": egoobjects.rows,
    "rlbench": rlbench.rows,
    "3doi": threedoi.rows,
    "coco": coco.rows,
    "labelme": labelme.rows,
    "photos": photos.rows,
    "runs": runs.rows,
    "simulated": simulated.rows,
}
