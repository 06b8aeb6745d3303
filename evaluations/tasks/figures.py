"""A figure of slides: where blocks ended on their targets, and how they drift with the offset of the contact.

python -m affordagent.evaluations.tasks.figures OUT --to slides.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.geometry import Array
from affordagent.evaluations.runner.records import TRIALS
from affordagent.evaluations.tasks.table import WAYS
from affordagent.robot.sim.task_judge import block_corners
from affordagent.robot.sim.task_scenes import sample_task_scene

GOOD, BAD, GREY = "#2a7f3f", "#c0392b", "#888888"
PANEL, GAP, LABEL, PLOT, FONT = 170, 12, 34, 300, 11  # pixels
SHOWN_MM, TARGET_MM = 130.0, 120.0  # half of the table round the target that is shown; side of the target
OFFSETS_MM, DRIFTS_DEG, ACROSS_MM = 28.0, 16.0, 60.0  # half ranges of the axes


def draw(out: Path) -> str:
    """The SVG of an evaluation folder of tasks with slides."""
    rows = [json.loads(line) for line in (out / TRIALS).read_text().splitlines()]
    slides = [row for row in rows if row["scene"] == "slide" and row["slide"]["strokes"]]
    ways = [way for way in WAYS if any(row["setting"] == way for row in slides)]
    right = [row for row in slides if row["slide"]["middle_error_m"] < 0.05]  # of the block, not of another thing
    pieces = [_ends(out, way, [r for r in slides if r["setting"] == way], i) for i, way in enumerate(ways)]
    top = LABEL + PANEL + 2 * GAP
    offsets = [1e3 * row["slide"]["offset_m"] for row in right]
    drifts = [float(np.degrees(row["slide"]["drift_rad"])) for row in right]
    once = [row for row in right if row["slide"]["strokes"] == 1]
    across = [1e3 * row["slide"]["across_m"] for row in once]
    pieces.append(_scatter(right, offsets, drifts, DRIFTS_DEG, "drift of the first stroke, degrees", GAP, top))
    once_offsets = [1e3 * row["slide"]["offset_m"] for row in once]
    beside = "block beside the target after one stroke, mm"
    pieces.append(_scatter(once, once_offsets, across, ACROSS_MM, beside, PLOT + 6 * GAP, top))
    width = max(len(ways) * (PANEL + GAP) + GAP, 2 * PLOT + 8 * GAP)
    size = f'width="{width}" height="{top + PLOT + 3 * LABEL}"'
    style = f'font-family="sans-serif" font-size="{FONT}"'
    whole = "".join(pieces)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect {size} fill="white"/>{whole}</svg>\n'


def _ends(out: Path, way: str, rows: Sequence[dict[str, Any]], column: int) -> str:
    """Where the blocks ended: the target in the middle, all turned so that the way came from below."""
    x0, scale = GAP + column * (PANEL + GAP), PANEL / (2 * SHOWN_MM)
    middle = x0 + PANEL / 2, LABEL + PANEL / 2
    shapes = [f'<rect x="{x0}" y="{LABEL}" width="{PANEL}" height="{PANEL}" fill="none" stroke="{GREY}"/>']
    shapes.append(
        f'<circle cx="{middle[0]}" cy="{middle[1]}" r="{TARGET_MM / 2 * scale:.1f}" fill="#e8eef7" stroke="none"/>'
    )
    for row in rows:
        at = 1e3 * last_corners(out / row["run"], row["seed"]) * scale * [1, -1] + middle
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        shapes.append(f'<polygon points="{points}" fill="none" stroke="{GOOD if row["success"] else BAD}"/>')
    name = "looked again" if way == "default" else way
    titles = (name, f"{sum(row['success'] for row in rows)} of {len(rows)}")
    for line, text in enumerate(titles):
        y = LABEL - 6 - (1 - line) * 14
        shapes.append(f'<text x="{middle[0]}" y="{y}" text-anchor="middle">{escape(text)}</text>')
    return "".join(shapes)


def last_corners(run: Path, seed: int) -> Array:
    """(4, 2) of the block at the end of its last stroke: target at 0, the first way along +y, metres."""
    scene = sample_task_scene("slide", seed)
    assert scene.goal is not None
    start, target = (scene.scene.object(name).T_base_object[:2, 3] for name in (scene.thing, scene.goal))
    looks = sorted(run.glob("look_*/contact.json")) or [run / "contact.json"]
    pose = json.loads(looks[-1].read_text())["trail"][-1][scene.thing]
    along = (target - start) / np.linalg.norm(target - start)
    axes = np.stack([[along[1], -along[0]], along])
    return np.asarray((block_corners(scene, np.array(pose)) - target) @ axes.T)


def _scatter(
    rows: Sequence[dict[str, Any]],
    xs: Sequence[float],
    ys: Sequence[float],
    most_y: float,
    label: str,
    x0: float,
    y0: float,
) -> str:
    """Values over the contact's offset; green where the trial succeeded."""
    left, size = x0 + LABEL, PLOT - LABEL

    def at(x: float, y: float) -> tuple[float, float]:
        return left + size * (0.5 + x / (2 * OFFSETS_MM)), y0 + size * (0.5 - y / (2 * most_y))

    shapes = [f'<rect x="{left}" y="{y0}" width="{size}" height="{size}" fill="none" stroke="{GREY}"/>']
    for tick in (-20, -10, 0, 10, 20):
        shapes.append(f'<text x="{at(tick, 0)[0]:.0f}" y="{y0 + size + 14}" text-anchor="middle">{tick}</text>')
    for value in most_y * np.linspace(-0.75, 0.75, 7):
        y = at(0, value)[1]
        shapes.append(f'<text x="{left - 4}" y="{y + 4:.0f}" text-anchor="end">{value:g}</text>')
        shapes.append(f'<path d="M{left} {y:.1f}h{size}" stroke="#eeeeee"/>')
    for row, x, y in zip(rows, xs, ys, strict=True):
        px, py = at(x, float(np.clip(y, -most_y, most_y)))
        shapes.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{GOOD if row["success"] else BAD}" fill-opacity="0.7"/>'
        )
    shapes.append(f'<text x="{left}" y="{y0 - 4}">{escape(label)}</text>')
    below = "block's middle beside the fingers' line, mm (+ = to the left)"
    shapes.append(f'<text x="{left + size / 2}" y="{y0 + size + 30}" text-anchor="middle">{escape(below)}</text>')
    return "".join(shapes)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m affordagent.evaluations.tasks.figures", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args(argv)
    args.to.write_text(draw(args.out))


if __name__ == "__main__":
    main()
