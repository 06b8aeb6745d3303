"""The network of graspnet-baseline (Fang et al., "GraspNet-1Billion", CVPR 2020) in plain torch.

Written from the paper and the published structure; parameters are named as there, so that `checkpoint-rs.tar` and
`checkpoint-kn.tar` load strictly. One cloud at a time, in the camera's frame (x right, y down, z forward), metres.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affordagent.tools.grasping.networks.checkpoint import load_checkpoint
from affordagent.tools.grasping.networks.pointnet2 import (
    Groups,
    ball_query,
    cylinder_query,
    farthest_points,
    interpolate,
    three_nearest,
)

VIEWS, ANGLES = 300, 12
DEPTHS_M = (0.01, 0.02, 0.03, 0.04)  # how far the tips reach past the grasp's point, and the crops' upper ends
CYLINDER_RADIUS_M, CYLINDER_LOW_M, CROP_POINTS = 0.05, -0.02, 64
MAX_WIDTH_M, MAX_TOLERANCE_M, HEIGHT_M, WIDER = 0.1, 0.05, 0.02, 1.2


class _SharedMLP(nn.Sequential):
    """1x1 convolutions, each with batch norm and ReLU; (E, C) -> (E, C')."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        for i, (inward, outward) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            norm = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(outward)))
            layer = OrderedDict(conv=nn.Conv2d(inward, outward, 1, bias=False), bn=norm, activation=nn.ReLU())
            self.add_module(f"layer{i}", nn.Sequential(layer))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = super().forward(x.T[None, :, :, None])
        return found[0, :, :, 0].T


class _Abstraction(nn.Module):
    def __init__(self, points: int, radius: float, neighbours: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.points, self.radius, self.neighbours = points, radius, neighbours
        self.mlp_module = _SharedMLP(widths[0] + 3, *widths[1:])

    def forward(self, xyz: Tensor, features: Tensor, ordered: bool) -> tuple[Tensor, Tensor]:
        """xyz (N, 3), features (N, C) -> centres (M, 3), features (M, C'). ordered: `xyz` come from such a sampling."""
        centres = xyz[: self.points] if ordered else xyz[farthest_points(xyz, self.points)]
        (groups,) = ball_query(xyz, centres, (self.radius,), self.neighbours)
        offset = (xyz[groups.index] - centres[groups.centre]) / self.radius
        return centres, groups.maximum(self.mlp_module(torch.cat([offset, features[groups.index]], 1)))


class _Propagation(nn.Module):
    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.mlp = _SharedMLP(*widths)

    def forward(self, xyz: Tensor, known: Tensor, features: Tensor, known_features: Tensor) -> Tensor:
        square, index = three_nearest(xyz, known)
        lifted = interpolate(known_features, index, 1 / (square.sqrt() + 1e-8))
        found: Tensor = self.mlp(torch.cat([lifted, features], 1))
        return found


class Pointnet2Backbone(nn.Module):
    """xyz (N, 3) -> seeds (1024, 3) with features (1024, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.sa1 = _Abstraction(2048, 0.04, 64, (0, 64, 64, 128))
        self.sa2 = _Abstraction(1024, 0.1, 32, (128, 128, 128, 256))
        self.sa3 = _Abstraction(512, 0.2, 16, (256, 128, 128, 256))
        self.sa4 = _Abstraction(256, 0.3, 16, (256, 128, 128, 256))
        self.fp1 = _Propagation(512, 256, 256)
        self.fp2 = _Propagation(512, 256, 256)

    def forward(self, xyz: Tensor) -> tuple[Tensor, Tensor]:
        xyz1, features1 = self.sa1(xyz, xyz.new_zeros((len(xyz), 0)), False)
        xyz2, features2 = self.sa2(xyz1, features1, True)
        xyz3, features3 = self.sa3(xyz2, features2, True)
        xyz4, features4 = self.sa4(xyz3, features3, True)
        features = self.fp1(xyz3, xyz4, features3, features4)
        return xyz2, self.fp2(xyz2, xyz3, features2, features)


class _Head(nn.Module):
    """Three 1x1 convolutions, two of them with batch norm and ReLU; (E, C) -> (E, C')."""

    def __init__(self, inward: int, middle: tuple[int, int], outward: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(inward, middle[0], 1)
        self.conv2 = nn.Conv1d(middle[0], middle[1], 1)
        self.conv3 = nn.Conv1d(middle[1], outward, 1)
        self.bn1, self.bn2 = nn.BatchNorm1d(middle[0]), nn.BatchNorm1d(middle[1])

    def forward(self, x: Tensor) -> Tensor:
        x = x.T[None]
        x = nn.functional.relu(self.bn1(self.conv1(x)))
        x = nn.functional.relu(self.bn2(self.conv2(x)))
        found: Tensor = self.conv3(x)[0].T
        return found


class CloudCrop(nn.Module):
    """Features (S, D, 256) of the points in D cylinders about each seed's approach."""

    def __init__(self) -> None:
        super().__init__()
        self.mlps = _SharedMLP(3, 64, 128, 256)

    def forward(self, seeds: Tensor, xyz: Tensor, rotation: Tensor) -> Tensor:
        crops = cylinder_query(xyz, seeds, rotation, CYLINDER_RADIUS_M, CYLINDER_LOW_M, DEPTHS_M, CROP_POINTS)

        def features(crop: Groups) -> Tensor:
            local = torch.einsum("ei,eij->ej", xyz[crop.index] - seeds[crop.centre], rotation[crop.centre])
            return crop.maximum(self.mlps(local))

        return torch.stack([features(crop) for crop in crops], 1)


@dataclass(frozen=True)
class Predictions:
    """Raw answers at S seeds (S, 3). objectness (S, 2); view (S, 3) unit, from the seed to where the hand comes from.
    By angle A and depth D, (S, D, A): score, angle (class scores), width (metres), tolerance (metres)."""

    seeds: Tensor
    objectness: Tensor
    view: Tensor
    score: Tensor
    angle: Tensor
    width: Tensor
    tolerance: Tensor


class _Stage1(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Pointnet2Backbone()
        self.vpmodule = _Head(256, (256, 2 + VIEWS), 2 + VIEWS)


class _Stage2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.crop = CloudCrop()
        self.operation = _Head(256, (128, 128), 3 * ANGLES)
        self.tolerance = _Head(256, (128, 128), ANGLES)


class GraspNet(nn.Module):
    """xyz (N, 3) float32, N >= 2048, shuffled, camera frame -> Predictions; `decode` makes grasps of them."""

    def __init__(self) -> None:
        super().__init__()
        self.view_estimator = _Stage1()
        self.grasp_generator = _Stage2()

    @torch.inference_mode()
    def forward(self, xyz: Tensor) -> Predictions:
        seeds, features = self.view_estimator.backbone(xyz)
        answers = self.view_estimator.vpmodule(features)
        view = grasp_views(VIEWS)[answers[:, 2:].argmax(1)]
        rotation = approach_matrix(-view, torch.zeros(len(view)))
        cropped = self.grasp_generator.crop(seeds, xyz, rotation)
        shape = cropped.shape[:2]
        operation = self.grasp_generator.operation(cropped.flatten(0, 1)).reshape(*shape, 3, ANGLES)
        score, angle, width = operation.unbind(2)
        tolerance = self.grasp_generator.tolerance(cropped.flatten(0, 1)).reshape(*shape, ANGLES)
        return Predictions(seeds, answers[:, :2], view, score, angle, width, tolerance)


def grasp_views(count: int) -> Tensor:
    """(count, 3) unit vectors spread evenly over the sphere: a Fibonacci lattice (Gonzalez, arXiv 0912.4540)."""
    i = np.arange(count)
    z = (2 * i + 1) / count - 1
    around = 2 * np.pi * i * (np.sqrt(5) - 1) / 2
    across = np.sqrt(1 - z * z)
    return torch.from_numpy(np.stack([across * np.cos(around), across * np.sin(around), z], -1).astype(np.float32))


def approach_matrix(approach: Tensor, angle: Tensor) -> Tensor:
    """(N, 3, 3) rotations, columns x = approach (N, 3), y = closing axis: level (no z) for angle 0, else turned by it
    (N,), radians, about the approach; y itself is the frame's y where the approach is along z."""
    x = nn.functional.normalize(approach, dim=1)
    y = torch.stack([-x[:, 1], x[:, 0], torch.zeros_like(angle)], -1)
    y[(y == 0).all(1), 1] = 1
    y = nn.functional.normalize(y, dim=1)
    z = torch.linalg.cross(x, y)
    cos, sin = torch.cos(angle)[:, None], torch.sin(angle)[:, None]
    return torch.stack([x, cos * y + sin * z, cos * z - sin * y], -1)


def decode(p: Predictions) -> NDArray[np.float64]:
    """(G, 17) rows of graspnetAPI, camera frame, one for each seed that is taken for an object's: its best depth, the
    angle of the highest class score at that depth; scores are weighted with the tolerance."""
    angle_class = p.angle.argmax(2, keepdim=True)  # (S, D, 1)
    score, tolerance = (v.gather(2, angle_class)[..., 0] for v in (p.score, p.tolerance))  # (S, D)
    width = (WIDER * p.width).clamp(0, MAX_WIDTH_M).gather(2, angle_class)[..., 0]
    depth_class = score.argmax(1, keepdim=True)
    best = [v.gather(1, depth_class) for v in (score, tolerance, width, angle_class[..., 0].float())]
    score, tolerance, width, angle = best
    depth = torch.tensor(DEPTHS_M)[depth_class]
    rotation = approach_matrix(-p.view, angle[:, 0] / ANGLES * np.pi)
    height, identity = torch.full_like(score, HEIGHT_M), torch.full_like(score, -1)
    rows = [score * tolerance / MAX_TOLERANCE_M, width, height, depth, rotation.flatten(1), p.seeds, identity]
    return torch.cat(rows, 1)[p.objectness.argmax(1) == 1].numpy().astype(np.float64)


def load_graspnet(path: Path) -> GraspNet:
    """The network with the weights of a checkpoint of graspnet-baseline: {"model_state_dict", "epoch", ...}.

    Raises:
        AffordAgentError: no such file, not a checkpoint, or of another network; the message says what to do.
    """
    network = GraspNet()
    load_checkpoint(network, path, "model_state_dict")
    return network.eval()
