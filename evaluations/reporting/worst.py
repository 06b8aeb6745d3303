"""Which failures to look at first, and a small picture of each."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from affordagent.agent.pictures import overlay
from affordagent.core.run_store import RunStore
from affordagent.evaluations.reporting.blame import code_of
from affordagent.evaluations.runner.records import Row

WORST = 24
WIDTH_PX, QUALITY = 360, 72


def worst_cases(rows: Sequence[Row], count: int = WORST) -> list[Row]:
    """Failures, the most misleading first: what the sensors took for a success, then in turn one of every code, the
    surest mask first."""
    failed = [row for row in rows if not row["success"]]
    false = [row for row in failed if row["sensed_success"]]
    codes: dict[str, list[Row]] = defaultdict(list)
    for row in failed:
        if not row["sensed_success"]:
            codes[code_of(row)].append(row)
    queues = sorted(codes.values(), key=len, reverse=True)
    for queue in (false, *queues):
        queue.sort(key=lambda row: (-(row["confidence"] or 0.0), row["key"]))
    turns = [queue[turn] for turn in range(max(map(len, queues), default=0)) for queue in queues if turn < len(queue)]
    return [*false[: max(count // 2, count - len(turns))], *turns][:count]


def thumbnail(run: Path) -> str | None:
    """What the camera saw with the mask on it, as a data URI of a JPEG; None when the run saw nothing."""
    store = RunStore(run)
    if not store.has("frame"):
        return None
    table, part, destination = (store.get(n) if store.has(n) else None for n in ("table", "part_mask", "destination"))
    picture = np.asarray(overlay(store.get("frame"), table, part, destination))
    height = round(picture.shape[0] * WIDTH_PX / picture.shape[1])
    small = cv2.resize(picture, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
