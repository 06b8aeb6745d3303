"""A learned view of a grasp: how likely it succeeds strictly, by a small network trained on simulated outcomes.

The network is an ensemble of two-layer perceptrons on numbers that say what the pads would hold, how it hangs and what
is near; `finetune.grasp_scorer` trains it, docs/grasp_scorer.md says on what and how well it does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array

if TYPE_CHECKING:
    from affordagent.tools.grasping.ranking import View

WEIGHTS = Path(__file__).with_name("scorer.safetensors")
_MOST_POINTS = 600  # of the part that are looked at
_TIP_THICK_M = 0.008
_NEAR_PAD_M = 0.004  # surface this near to a pad counts as touched


@dataclass(frozen=True)
class Scorer:
    """names: of the features, in order. layers: weights (M, I, O) and biases (M, O) of each layer of M networks."""

    names: tuple[str, ...]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    clip: float
    layers: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]

    def __call__(self, view: View) -> Array:
        """(G,) chance of strict success in [0, 1]."""
        found = features(view)
        return self.probability(np.stack([found[name] for name in self.names], 1))

    def probability(self, values: Array) -> Array:
        """(G,) in [0, 1] of features (G, F)."""
        x = np.clip((values.astype(np.float32) - self.mean) / self.scale, -self.clip, self.clip)[None]
        for i, (weight, bias) in enumerate(self.layers):
            x = (np.maximum(x, 0) if i else x) @ weight + bias[:, None]
        return np.asarray(1 / (1 + np.exp(-x[..., 0].mean(0, dtype=float))))


@cache
def load(path: Path = WEIGHTS) -> Scorer:
    """The scorer that `finetune.grasp_scorer` saved.

    Raises:
        AffordAgentError: no such file, or not a scorer.
    """
    try:
        with safe_open(str(path), "numpy") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        depth = sum(key.startswith("w") for key in tensors)
        return Scorer(
            tuple(json.loads(header["features"])),
            tensors["mean"],
            tensors["scale"],
            float(header["clip"]),
            tuple((tensors[f"w{i}"], tensors[f"b{i}"]) for i in range(depth)),
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise AffordAgentError(f"{path} is no grasp scorer ({error}): train one, see docs/grasp_scorer.md") from error


def features(view: View) -> dict[str, Array]:
    """Numbers of each candidate, (G,) by name. Lengths in centimetres, angles in radians: all of order one.

    They are the same for a hand turned half about its approach, which is the same grasp.
    """
    grasps, touch, T = view.grasps, view.touch, view.grasps.T_base_tcp
    tip = view.gripper.tip_past_tcp_m(grasps.width_m)
    lever = np.einsum("gk,gkj->gj", view.com - T[:, :3, 3], T[:, :3, :3])
    reach = np.stack([np.full_like(tip, view.gripper.pad_width_m / 2), grasps.width_m / 2 + _TIP_THICK_M], -1)
    tip_m = T[:, 2, 3] + T[:, 2, 2] * tip - view.table_z_m
    corner_m = tip_m - (np.abs(T[:, 2, :2]) * reach).sum(1)  # the lowest point of the closed fingers
    flat = np.linalg.norm((view.com - T[:, :3, 3])[:, :2], axis=1)
    return {
        "width": 100 * grasps.width_m,
        "tilt": grasps.tilt_rad,
        "quality": np.arccos(np.clip(grasps.quality, 0, 1)),
        "tip_past_contact": 100 * grasps.tip_past_contact_m,
        "extent_x": 100 * touch.extent_x_m,
        "extent_z": 100 * touch.extent_z_m,
        "middle_x": 100 * np.abs(touch.middle_x_m),
        "skew": touch.skew_rad,
        "purity": touch.purity,
        "observed": touch.observed,
        "clearance": 100 * view.clearance_m,
        "lever_x": 10 * np.abs(lever[:, 0]),
        "lever_y": 10 * np.abs(lever[:, 1]),
        "lever_z": 10 * lever[:, 2],
        "lever_flat": 10 * flat,
        "climb_x": np.abs(T[:, 2, 0]),
        "climb_y": np.abs(T[:, 2, 1]),
        "tip_height": 10 * np.minimum(tip_m, 0.1),
        "corner_height": 100 * np.minimum(corner_m, 0.012),
        **_sides(view, tip),
        **_shape(view),
    }


def _sides(view: View, tip: Array) -> dict[str, Array]:
    """How the part lies against either pad, and what lies around the closing region."""
    T, count = view.grasps.T_base_tcp, len(view.grasps)
    step = -(-len(view.part.points) // _MOST_POINTS)
    p, normals = view.part.points[::step], view.part.normals[::step]
    x_all, z_all = (T[:, :3, k] @ p.T - np.einsum("gk,gk->g", T[:, :3, 3], T[:, :3, k])[:, None] for k in (0, 2))
    z_all -= tip[:, None]
    hand, point = np.nonzero((np.abs(x_all) < 0.03) & (z_all > -0.045))  # the others are of no interest
    x, z = x_all[hand, point], z_all[hand, point]
    y = np.einsum("ik,ik->i", p[point] - T[hand, :3, 3], T[hand, :3, 1])
    half = view.grasps.width_m[hand] / 2
    middle = np.abs(x) < view.gripper.pad_width_m / 2
    between = middle & (z < 0) & (z > -view.gripper.pad_length_m) & (np.abs(y) < half + 0.002)
    facing = np.abs(np.einsum("ik,ik->i", normals[point], T[hand, :3, 1]))

    def total(values: Array) -> Array:
        return np.bincount(hand, values, count).astype(float)

    sides: dict[str, list[Array]] = {"span_x": [], "span_z": [], "points": [], "facing": []}
    for side in (-1, 1):
        near = between & (half - side * y < _NEAR_PAD_M)
        touched = total(near)
        sides["span_x"].append(100 * _spread(x[near], hand[near], count))
        sides["span_z"].append(100 * _spread(z[near], hand[near], count))
        sides["points"].append(touched * step * (100 * view.part.spacing_m) ** 2)
        sides["facing"].append(total(near * facing) / np.maximum(touched, 1))
    held = np.maximum(total(between), 1)
    around = z < 0.015
    return {
        **{f"{name}_least": np.minimum(*both) for name, both in sides.items()},
        **{f"{name}_most": np.maximum(*both) for name, both in sides.items()},
        "thickness": 100 * total(np.abs(y) * between) / held,
        "beyond_tips": total(middle & (np.abs(y) < half) & (z > 0)) / held,
        "outside": total(around & (np.abs(y) > half + 0.004)) / held,
        "beside": total(around & ~middle) / held,
        "high": 100 * np.maximum(-0.1, _greatest(z[between], hand[between], count)),
    }


def _greatest(values: Array, hand: NDArray[np.int_], count: int) -> Array:
    """(count,) greatest value of each hand, -inf where it has none; hand: (N,) rising."""
    greatest = np.full(count, -np.inf)
    if len(values):
        present, start = np.unique(hand, return_index=True)
        greatest[present] = np.maximum.reduceat(values, start)
    return greatest


def _spread(values: Array, hand: NDArray[np.int_], count: int) -> Array:
    """(count,) greatest less smallest value of each hand, 0 where it has none."""
    span = _greatest(values, hand, count) + _greatest(-values, hand, count)
    return np.where(np.isfinite(span), span, 0.0)


def _shape(view: View) -> dict[str, Array]:
    """Where the hand is on the part's long axis. Sizes of part and object are left out: a network takes them for the
    names of kinds, and does worse on new ones."""
    T, p = view.grasps.T_base_tcp, view.part.points
    middle = p.mean(0)
    _, _, axes = np.linalg.svd(p - middle, full_matrices=False)
    long_m = max(float(np.ptp(p @ axes[0])), 1e-3)
    along = np.abs(T[:, :3, :3].transpose(0, 2, 1) @ axes[0])  # (G, 3) cosines of the long axis to x, y, z
    off_m = np.abs((T[:, :3, 3] - middle) @ axes[0])
    return {"along_x": along[:, 0], "along_y": along[:, 1], "off_middle_share": off_m / long_m}
