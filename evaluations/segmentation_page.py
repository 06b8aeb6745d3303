"""report.html of an evaluation of segmentation: one self-contained page, made from the scored rows."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import Mask
from affordagent.evaluations.segmentation import Scored
from affordagent.evaluations.segmentation_task import Task
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_image, load_mask

WORST, NEGATIVES = 24, 12  # cases shown
WIDTH_PX = 480
TRUTH_RGB, FOUND_RGB = (0, 230, 60), (255, 30, 30)
EDGES = np.linspace(0, 1, 11)
TITLES = {"free": "Free generation", "teacher-forced": "Teacher-forced"}


def write_page(task: Task, rows: Sequence[Scored], result: dict[str, Any], out: Path) -> Path:
    """Write OUT/report.html from the rows and what `segmentation.summary` made of them; returns its path."""
    samples = dict(task.rows)
    parts = []
    for number, generation in enumerate(task.generations):
        mine = [row for row in rows if row.generation == generation]
        missed = sorted((r for r in mine if not r.negative), key=lambda r: (r.iou, -r.union))[:WORST]
        wrong = sorted((r for r in mine if r.negative and r.answered), key=lambda r: -r.confidence)[:NEGATIVES]
        figures = result if number == 0 else result[generation.replace("-", "_")]
        parts.append(
            {
                "title": TITLES[generation],
                "figures": figures,
                "histogram": _histogram(mine),
                "worst": [_case(samples[r.index], r) for r in missed],
                "negatives": [_case(samples[r.index], r) for r in wrong],
            }
        )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files("affordagent.evaluations").joinpath("segmentation.html").read_text()
    path = out / "report.html"
    path.write_text(environment.from_string(source).render(result={"published": None} | result, parts=parts))
    return path


def _histogram(rows: list[Scored]) -> list[tuple[str, int]]:
    counts, _ = np.histogram([row.iou for row in rows], EDGES)
    names = [f"{low:.1f} to {high:.1f}" for low, high in zip(EDGES[:-1], EDGES[1:], strict=True)]
    return list(zip(names, counts.tolist(), strict=True))


def _case(sample: Sample, row: Scored) -> dict[str, Any]:
    image = load_image(sample)
    predicted = load_mask(Sample(sample.image, sample.text, mask_rle=row.prediction), image.shape)
    picture = overlay(image, load_mask(sample, image.shape), predicted)
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return {"row": row, "picture": f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"}


def overlay(image: NDArray[np.uint8], truth: Mask, predicted: Mask) -> NDArray[np.uint8]:
    """(h, WIDTH_PX, 3) RGB: the prediction tinted red, the truth outlined green."""
    picture = image.copy()
    picture[predicted] = (0.45 * picture[predicted] + 0.55 * np.array(FOUND_RGB)).astype(np.uint8)
    scale = WIDTH_PX / image.shape[1]
    size = (WIDTH_PX, max(1, round(image.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    for mask, colour in ((predicted, FOUND_RGB), (truth, TRUTH_RGB)):
        shrunk = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(shrunk, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(small, outline, -1, colour, 1)
    return np.asarray(small, np.uint8)
