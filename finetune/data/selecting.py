"""Which rows a person should look at next: those that failed, those the tools doubt, those unlike what is known.

Urgency, from 0 to 1: a trial that failed 1; two tools that disagree, 1 - their overlap; a tool in doubt, 1 - its
confidence; no answer yet, .5; the largest of them counts. Of the most urgent, rows are taken one by one: the next is
the one with the largest urgency * distance to the pictures that are labelled or taken already (greedy k-centre: Sener
and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018). So ten failures that
look alike do not fill the list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import box_of_row, load_image

TRUSTED = ("original", "person")
SURE = 0.8  # a label of a tool that is at least so sure needs no person
POOL = 10  # candidates looked at for each row that is wanted
KNOWN = 500  # labelled pictures that candidates are compared with
SIDE = 8
LEAST = 0.05  # of the distance: what is known already may still be urgent


@dataclass(frozen=True)
class Chosen:
    """reason: why it is worth a person's time, in words."""

    sample: Sample
    urgency: float
    reason: str


def select(rows: Sequence[Sample], n: int) -> list[Chosen]:
    """At most `n` rows, the best first; rows with a label of their own source or of a person are never among them. A
    row stands for the others of its picture and class. The same rows give the same list.

    Raises:
        AffordAgentError: a picture cannot be read.
    """
    wanted: dict[tuple[str, str | None], Chosen] = {}
    for row in rows:
        if row.tool not in TRUSTED and not (row.status == "labelled" and row.tool is None):
            urgency, reason = urgency_of(row)
            key = (row.image, row.category)
            if urgency > 0 and (key not in wanted or urgency > wanted[key].urgency):
                wanted[key] = Chosen(row, urgency, reason)
    pool = sorted(wanted.values(), key=lambda c: (-c.urgency, c.sample.source_id or c.sample.image))[: POOL * n]
    if not pool:
        return []
    looks = np.stack([looks_of(one.sample) for one in pool])
    known = [row for row in rows if row.tool in TRUSTED]
    known = known[:: max(1, len(known) // KNOWN)][:KNOWN]
    distance = np.full(len(pool), np.inf)
    for row in known:
        distance = np.minimum(distance, np.linalg.norm(looks - looks_of(row), axis=1))
    distance[np.isinf(distance)] = np.sqrt(2)  # the farthest that two can be apart: nothing is known yet
    weight = np.array([one.urgency for one in pool])
    out: list[Chosen] = []
    taken = np.zeros(len(pool), bool)
    for _ in range(min(n, len(pool))):
        i = int(np.argmax(np.where(taken, -1.0, weight * np.maximum(distance, LEAST))))
        taken[i] = True
        unlike = f"; unlike what is known by {distance[i]:.2f} of 1.41"
        out.append(Chosen(pool[i].sample, pool[i].urgency, pool[i].reason + unlike))
        distance = np.minimum(distance, np.linalg.norm(looks - looks[i], axis=1))
    return out


def urgency_of(row: Sample) -> tuple[float, str]:
    """From 0 to 1, and why in words; (0, "") for a label that needs no person."""
    checks = json.loads(row.checks) if row.checks else {}
    agreement = checks.get("agreement") if isinstance(checks, dict) else None
    found = []
    if row.failure:
        found.append((1.0, f"the trial failed: {row.failure}"))
    if isinstance(agreement, int | float) and agreement < SURE:
        found.append((1 - float(agreement), f"two tools agree by {agreement:.2f} alone"))
    if row.confidence is not None and row.confidence < SURE:
        found.append((1 - row.confidence, f"the tool is sure by {row.confidence:.2f} alone"))
    if row.status == "unlabelled" and row.confidence is None:
        found.append((0.5, "no tool has answered yet"))
    if not found:
        return 0.0, ""
    return max(urgency for urgency, _ in found), ", ".join(reason for _, reason in sorted(found, reverse=True))


def looks_of(row: Sample) -> NDArray[np.float64]:
    """(384,) of length 1: the thing in its box, or the whole picture, as 8x8 Lab colours and edges, each of mean 0.

    No network is needed for it: it tells scenes, things and lights apart, not classes.
    """
    image = load_image(row)
    if (box := box_of_row(row)) is not None:
        x0, y0, x1, y1 = (int(n) for n in box)
        image = image[y0 : y1 + 1, x0 : x1 + 1]
        if not image.size:
            raise AffordAgentError(f"box {row.box} of {row.image} lies outside the picture")
    small = cv2.resize(image, (8 * SIDE, 8 * SIDE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float64)
    grey = lab[..., 0]
    edges = np.stack([np.abs(cv2.Sobel(grey, cv2.CV_64F, 1, 0)), np.abs(cv2.Sobel(grey, cv2.CV_64F, 0, 1))], -1)
    maps = np.concatenate([lab, edges, np.hypot(*np.moveaxis(edges, -1, 0))[..., None]], -1)
    cells = cv2.resize(maps, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(SIDE * SIDE, -1)
    cells = (cells - cells.mean(0)) / (cells.std() + 1e-9)
    flat = cells.ravel()
    return flat / (np.linalg.norm(flat) + 1e-9)
