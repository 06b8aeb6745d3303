"""RLBench: demonstrations of tasks in simulation.

Source: https://github.com/stepjam/RLBench (rlbench/backend/const.py, rlbench/utils.py; its own licence, for research).

    <task>/{variation0,...,all_variations}/episodes/episode0/front_rgb/0.png, front_mask/0.png, low_dim_obs.pkl
    .../variation_descriptions.pkl       a list of texts, next to `episodes` or in the episode

`low_dim_obs.pkl` holds the simulator's own classes: it is a program, and is never opened. `front_mask` numbers the
simulator's shapes, but which shape is the thing is said only there; so these rows wait for the annotation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.pickles import load_plain
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    first_frames,
    folders_with,
    inside,
    provenance,
    reason_of,
    split_named,
    text_of,
)

LICENCE = "RLBench licence: academic, non-commercial"
URL = "https://github.com/stepjam/RLBench"
CAMERA = "front"
DESCRIPTIONS = "variation_descriptions.pkl"
MAX_PICKLE_BYTES = 1 << 20


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each of `take.frames_n` pictures of each episode, with the task's first description as the text."""
    for episode in folders_with(folder, f"{CAMERA}_rgb"):
        place = episode.relative_to(folder)
        try:
            text = _description(folder, place)
        except MALFORMED as error:
            yield Rejected(f"{place}/{DESCRIPTIONS}", reason_of(error))
            text = ""
        pictures = [n for n in os.listdir(episode / f"{CAMERA}_rgb") if n.endswith(".png")]
        for name in first_frames(pictures, take.frames_n):
            source_id = f"{place}/{CAMERA}/{Path(name).stem}"
            yield attempt(source_id, _row, folder, place, name, text, source_id)


def _row(root: Path, place: Path, name: str, text: str, source_id: str) -> Sample:
    mask = place / f"{CAMERA}_mask" / name
    return Sample(
        image=str(inside(root, place / f"{CAMERA}_rgb" / name)),
        text=text,
        kind="easy",
        source="rlbench",
        split=split_named(place.parts[0]) if len(place.parts) > 1 else "train",
        source_id=source_id,
        group=f"rlbench/{place}",
        licence=LICENCE,
        provenance=provenance(
            url=URL,
            task=_task(place),
            episode=place.name,
            frame=Path(name).stem,
            camera=CAMERA,
            shapes=mask.as_posix() if (root / mask).exists() else None,
        ),
        status="unlabelled",
    )


def _description(root: Path, place: Path) -> str:
    for where in (place, place.parent.parent):
        if (root / where / DESCRIPTIONS).exists():
            file = inside(root, where / DESCRIPTIONS)
            if file.stat().st_size > MAX_PICKLE_BYTES:
                raise AffordAgentError(f"has {file.stat().st_size} bytes, the limit is {MAX_PICKLE_BYTES}")
            texts = load_plain(file)
            if not isinstance(texts, list | tuple) or not texts:
                raise AffordAgentError(f"holds a {type(texts).__name__}, not a list of texts")
            return text_of(texts[0])
    return ""


def _task(place: Path) -> str | None:
    """The folder above the variation."""
    return place.parts[-4] if len(place.parts) >= 4 else None
