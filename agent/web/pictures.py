"""The picture of a run, whatever it has come to: what the camera saw, and what was made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from affordagent.agent.pictures import PART_RGB, PROPOSAL_RGB, RGB, draw_gripper, draw_outline
from affordagent.agent.pictures import overlay as drawn
from affordagent.core.run_store import RunStore
from affordagent.core.types import PartMask, TableScene

CHOSEN_RGB, CONSIDERED_RGB, CHOICE_RGB = (235, 45, 35), (70, 130, 230), (255, 215, 60)
CONSIDERED = 3  # grasps drawn before one is chosen
LEAST_SHARE = 0.05  # of the scores, from which a thing is labelled with its own
TEXT_SHARE = 26  # the labels' height is that of the picture over this

Label = tuple[tuple[int, int], str, RGB]  # corner (x, y) in pixels, text, colour of its plate


def overlay(run: Path) -> NDArray[np.uint8] | None:
    """(H, W, 3) RGB, of the camera's size, from what the folder holds at this moment; None before anything was seen.

    Things on the table have thin blue boxes, with how well they fit the words in percent where a tool said so. The part
    is magenta, its object has a green outline, the place to put it a yellow one; a mask that is still in doubt has an
    outline only. The choices of a question have yellow boxes with the numbers they have in the question. The chosen
    grasp is a red gripper; before one is chosen, the best ones are blue.
    """
    store = RunStore(run)
    frame = store.readable("frame")
    if frame is None:
        return None
    table, part, choices = store.readable("table"), store.readable("part_mask"), choices_of(store)
    shown = None if choices else table
    picture = np.asarray(drawn(frame, shown, part, store.readable("destination"))).copy()
    doubted = store.readable("first_answer")
    if part is None and doubted is not None:
        draw_outline(picture, doubted.mask, PART_RGB, 2)
    if frame.T_base_camera is not None:
        plan, found = store.readable("plan"), store.readable("grasps")
        if plan is not None:
            draw_gripper(picture, frame, plan.grasp, plan.opening_m, CHOSEN_RGB, 3)
        elif found is not None:
            for grasp in reversed(found[0][:CONSIDERED]):
                draw_gripper(picture, frame, grasp, grasp.width_m, CONSIDERED_RGB, 1)
    labels = [] if choices else _scores(table, part or doubted)
    for number, choice in enumerate(choices, 1):
        x0, y0, x1, y1 = (int(v) for v in choice["box"])
        cv2.rectangle(picture, (x0, y0), (x1 - 1, y1 - 1), CHOICE_RGB, 2)
        labels.append(((x0, y0), str(number), CHOICE_RGB))
    return _labelled(picture, labels)


def choices_of(store: RunStore) -> list[dict[str, Any]]:
    """The choices that the run's question gives, in its order: {"label", "at_m", "box"}; none without a question."""
    stages = [event for event in store.events() if event["event"] == "stage"]
    return list(stages[-1].get("evidence", {}).get("choices", [])) if stages else []


def _scores(table: TableScene | None, part: PartMask | None) -> list[Label]:
    """At each thing how well it fits the words."""
    if table is None or part is None:
        return []
    scores = {int(name): float(value) for name, value in (part.evidence.get("shares") or {}).items()}
    things = [p for p in table.proposals if scores.get(p.id, 0.0) >= LEAST_SHARE]
    return [((p.box[0], p.box[1]), f"{100 * scores[p.id]:.0f} %", PROPOSAL_RGB) for p in things]


def _labelled(picture: NDArray[np.uint8], labels: list[Label]) -> NDArray[np.uint8]:
    """Each text on a plate of its colour that stands on its corner, kept within the picture."""
    image = Image.fromarray(picture)
    drawing = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(10, picture.shape[0] // TEXT_SHARE))
    for corner, text, colour in labels:
        left, top, right, bottom = (int(v) for v in drawing.textbbox((0, 0), text, font=font))
        width, height = right - left + 8, bottom - top + 6
        x = min(max(corner[0], 0), picture.shape[1] - width)
        y = min(max(corner[1] - height, 0), picture.shape[0] - height)
        drawing.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
        drawing.text((x + 4 - left, y + 3 - top), text, font=font, fill="black")
    return np.array(image)
