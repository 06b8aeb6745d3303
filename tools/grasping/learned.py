"""Grasp networks as backends: they look at the whole scene, what they propose is filtered by the part and refined."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.file_format import tip_poses
from affordagent.tools.grasping.refine import Refined, tips_of

if TYPE_CHECKING:
    from affordagent.tools.grasping.networks.contact_graspnet import ContactGraspNet
    from affordagent.tools.grasping.networks.graspnet_baseline import GraspNet

LOG = logging.getLogger(__name__)
SCENE_POINTS = 20_000  # what both networks were trained with
PART_POINTS = 2_000  # of them at most on the part
SCENE_REACH_M, BELOW_TABLE_M, ABOVE_TABLE_M = 0.45, 0.02, 0.6  # of the scene around the part, as large as in training
ON_PART_M = 0.004  # of a contact to the part's seen points
PART_CONTACTS, SCENE_CONTACTS = 512, 1536
MOST = 400  # grasps that are refined, the most confident first
PANDA_TIP_M = 0.1122  # from the base of the Panda hand to its fingertips

CGN_LICENCE = (
    "Contact-GraspNet weights are yours to answer for: cgn-pytorch says MIT, without a licence file or the origin of "
    "the weights; NVIDIA's original is for non-commercial use"
)
BASELINE_LICENCE = "GraspNet-baseline's code and weights are for non-commercial use, not to be passed on"


def scene_points(
    frame: RgbdFrame | None, cloud: PartCloud, rng: np.random.Generator, who: str
) -> tuple[Array, Array, int]:
    """At most `SCENE_POINTS` points (N, 3) of the scene around the part, table and all, base frame; the part's first.

    Returns T_base_camera, the points, and how many of them are the part's.

    Raises:
        StageFailure: ("propose", tool.unavailable): there is no frame, or hardly any depth around the part.
    """
    if frame is None or frame.T_base_camera is None:
        raise StageFailure("propose", "tool.unavailable", f"{who} needs the frame and its T_base_camera: pass both")
    seen = frame.camera.back_project(frame.depth_m)[frame.depth_m > 0]
    seen = transform_points(frame.T_base_camera, seen)
    height_m = seen[:, 2] - cloud.table_z_m
    around = np.abs(seen[:, :2] - cloud.part[:, :2].mean(0)).max(1) < SCENE_REACH_M
    seen = seen[around & (height_m > -BELOW_TABLE_M) & (height_m < ABOVE_TABLE_M)]
    part = cloud.part[rng.permutation(len(cloud.part))[:PART_POINTS]]
    others = seen[rng.permutation(len(seen))[: SCENE_POINTS - len(part)]]
    if len(others) < SCENE_CONTACTS + PART_CONTACTS:
        raise StageFailure(
            "propose",
            "tool.unavailable",
            f"{who} needs {SCENE_CONTACTS + PART_CONTACTS} points around the part, {len(others)} have depth",
            points=len(others),
        )
    return frame.T_base_camera, np.concatenate([part, others]), len(part)


def _on_part(points: Array, cloud: PartCloud) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = cKDTree(cloud.part).query(points)[0] < ON_PART_M
    return near


class ContactGraspNetBackend(Refined):
    """Contact-GraspNet with a user's weights (cgn-pytorch's `current.pth`, or its wheel).

    The network is asked at contacts spread over the scene and, more densely, over the part; it is given the base frame,
    whose z is up, as in its training. Of its answers, poses of a Panda hand, those with a contact on the part are kept.
    """

    name = "contact-graspnet"

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    def load(self) -> None:
        """Read the weights.

        Raises:
            AffordAgentError: the file is missing or not Contact-GraspNet's.
        """
        _ = self._network

    @cached_property
    def _network(self) -> ContactGraspNet:
        from affordagent.tools.grasping.networks.contact_graspnet import load_contact_graspnet

        network = load_contact_graspnet(self.weights)
        LOG.warning(CGN_LICENCE)
        return network

    def proposals(self, frame: RgbdFrame | None, cloud: PartCloud, rng: np.random.Generator) -> tuple[Array, int]:
        """(G, 4, 4) fingertip poses on the part in the base frame (see `refine`), most confident first, as the network
        says them, and how many contacts it was asked at."""
        import torch

        from affordagent.tools.grasping.networks.pointnet2 import farthest_points

        _, points, part_count = scene_points(frame, cloud, rng, self.name)
        middle = points.mean(0)
        order = rng.permutation(len(points))
        xyz = torch.from_numpy((points - middle)[order].astype(np.float32))
        of_part = torch.from_numpy(np.flatnonzero(order < part_count))
        chosen = of_part[farthest_points(xyz[of_part], min(PART_CONTACTS, part_count))]
        spread = farthest_points(xyz, SCENE_CONTACTS + PART_CONTACTS - len(chosen))
        contacts = torch.cat([chosen, spread])[torch.from_numpy(rng.permutation(SCENE_CONTACTS + PART_CONTACTS))]
        grasps = self._network(xyz, contacts)
        kept = np.flatnonzero(_on_part(grasps.contact.numpy() + middle, cloud))
        kept = kept[np.argsort(-grasps.score.numpy()[kept], kind="stable")][:MOST]
        T_hand = grasps.T_hand.numpy()[kept].astype(float)
        T_hand[:, :3, 3] += middle
        return tips_of(T_hand, PANDA_TIP_M), len(contacts)


class GraspNetBaselineBackend(Refined):
    """graspnet-baseline with a user's weights (`checkpoint-rs.tar`, `checkpoint-kn.tar`), on the camera's own points.

    Its seeds are spread over the scene: of its grasps those are kept whose point is on the part.
    """

    name = "graspnet-baseline"

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    def load(self) -> None:
        """Read the weights.

        Raises:
            AffordAgentError: the file is missing or not graspnet-baseline's.
        """
        _ = self._network

    @cached_property
    def _network(self) -> GraspNet:
        from affordagent.tools.grasping.networks.graspnet_baseline import load_graspnet

        network = load_graspnet(self.weights)
        LOG.warning(BASELINE_LICENCE)
        return network

    def proposals(self, frame: RgbdFrame | None, cloud: PartCloud, rng: np.random.Generator) -> tuple[Array, int]:
        """(G, 4, 4) fingertip poses on the part in the base frame (see `refine`), most confident first, as the network
        says them, and how many it has in the scene."""
        import torch

        from affordagent.tools.grasping.networks.graspnet_baseline import decode

        T_base_camera, points, _ = scene_points(frame, cloud, rng, self.name)
        points = transform_points(invert(T_base_camera), points)[rng.permutation(len(points))]
        rows = decode(self._network(torch.from_numpy(points.astype(np.float32))))
        on_part = rows[_on_part(transform_points(T_base_camera, rows[:, 13:16]), cloud)]
        best = on_part[np.argsort(-on_part[:, 0], kind="stable")][:MOST]
        return T_base_camera @ tip_poses(best), len(rows)
