"""Every thing in a colour picture, without knowing what it is: a small instance head on frozen EfficientNet-Lite0.

After Neven et al. (CVPR 2019, "Instance segmentation by jointly optimizing spatial embeddings and clustering
bandwidth"): every pixel votes for the middle of its thing and says how far votes may scatter; votes near the vote of a
confident pixel are one thing. A foreground map at stride 2 gives the outlines. Only the head is stored, the trunk's
weights come from their package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from affordagent.core.embedded import lite0_weights
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, box_of

WEIGHTS = "head.safetensors"
AREA_PX, FAR_AREA_PX = 448 * 336, 224 * 168  # sizes at which a picture is looked at
LARGE = 0.1  # share of the picture from which on the look from afar counts
PIECE_INSIDE, SAME = 0.7, 0.8  # share of a piece that lies within its thing; IoU of one thing seen twice
LEAST_SIDE_PX = 64
MOST_THINGS = 40
SEED_ABOVE = 0.45
INSIDE = 0.5  # closeness of votes that belong together; share of a pixel that is covered
MIN_CELLS = 3  # at stride 4: smaller things are noise
SPREAD_BIAS = 4.0  # log of 1 / (2 variance) at the start: votes may scatter by about a tenth of the picture

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Maps:
    """What the network says of B pictures of h x w pixels. votes: (B, 2, h/4, w/4) x, y in units of sqrt(h w); spread:
    (B, 1, h/4, w/4) log of 1 / (2 variance); seeds: (B, 1, h/4, w/4) logit of how near the vote is to the middle's;
    foreground: (B, 1, h/2, w/2) logit."""

    votes: Tensor
    spread: Tensor
    seeds: Tensor
    foreground: Tensor


@dataclass(frozen=True)
class Thing:
    """mask: (H, W) bool, never empty. score: in [0, 1]."""

    mask: Mask
    score: float


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(8, channels)


class Mix(nn.Module):
    """A residual block: depthwise over a wide neighbourhood, then pointwise."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        pad = kernel // 2 * dilation
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, kernel, padding=pad, dilation=dilation, groups=channels),
            _norm(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.GELU(),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Head(nn.Module):
    """The trained part: a feature pyramid down to stride 4, and stride 2 for the outlines."""

    def __init__(self) -> None:
        super().__init__()
        self.lateral32, self.context = nn.Conv2d(320, 96, 1), nn.Conv2d(320, 96, 1)
        self.mix32 = Mix(96, 5)
        self.lateral16 = nn.Conv2d(112, 96, 1)
        self.mix16 = nn.Sequential(Mix(96, 5), Mix(96, 5, 2))
        self.lateral8, self.down8 = nn.Conv2d(40, 64, 1), nn.Conv2d(96, 64, 1)
        self.mix8 = Mix(64, 5)
        self.lateral4, self.down4 = nn.Conv2d(24, 48, 1), nn.Conv2d(64, 48, 1)
        self.mix4 = nn.Sequential(_norm(48), nn.GELU(), nn.Conv2d(48, 48, 3, padding=1), _norm(48), nn.GELU())
        self.out = nn.Conv2d(48, 4, 1)
        self.lateral2, self.down2 = nn.Conv2d(16, 16, 1), nn.Conv2d(48, 16, 1)
        self.foreground = nn.Sequential(nn.GELU(), nn.Conv2d(16, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, 1, 1))

    def forward(self, features: list[Tensor]) -> Maps:
        """features: the trunk's at strides 2, 4, 8, 16, 32."""
        f2, f4, f8, f16, f32 = features
        x = self.mix32(self.lateral32(f32) + self.context(f32.mean((2, 3), keepdim=True)))
        x = self.mix16(_to(x, f16) + self.lateral16(f16))
        x = self.mix8(self.down8(_to(x, f8)) + self.lateral8(f8))
        x = self.mix4(self.down4(_to(x, f4)) + self.lateral4(f4))
        out = self.out(x)
        foreground = self.foreground(self.down2(_to(x, f2)) + self.lateral2(f2))
        height, width = out.shape[-2:]
        unit = (height * width) ** 0.5
        y, at = torch.meshgrid(torch.arange(height) / unit, torch.arange(width) / unit, indexing="ij")
        return Maps(torch.stack([at, y]) + out[:, :2] * 0.2, out[:, 2:3] + SPREAD_BIAS, out[:, 3:], foreground)


def _to(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class ObjectnessNet(nn.Module):
    """Frozen trunk and head. Sides of the pictures are divisible by 32."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.trunk = timm.create_model(
            "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(0, 1, 2, 3, 4)
        )
        self.trunk.load_state_dict(lite0_weights(), strict=False)
        self.trunk.requires_grad_(False)
        self.head = Head()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) * 255, persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def train(self, mode: bool = True) -> ObjectnessNet:
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, image: Tensor) -> Maps:
        """image: (B, 3, h, w) uint8 RGB."""
        normal = ((image.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            features = self.trunk(normal)
        return self.head(features)


def closeness(votes: Tensor, middle: Tensor, spread: Tensor) -> Tensor:
    """(K, N) in [0, 1]: how well votes (2, N) agree with the middles (K, 2) of K things of the given spread (K,)."""
    squared = ((votes[None] - middle[:, :, None]) ** 2).sum(1)
    return torch.exp(-squared * spread[:, None].exp())


class Objectness:
    """Finds the things of a picture with the weights in a folder.

    Raises:
        AffordAgentError: the folder holds no weights of this network.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / WEIGHTS
        if not path.is_file():
            raise AffordAgentError(f"{folder} has no {WEIGHTS}: not a checkpoint of the object proposals")
        self.net = ObjectnessNet().eval()
        given = {name: value.float() for name, value in load_file(path).items()}
        wanted = self.net.head.state_dict()
        if {n: v.shape for n, v in given.items()} != {n: v.shape for n, v in wanted.items()}:
            raise AffordAgentError(f"{path} is of another network: export it again with finetune.objectness_train")
        self.net.head.load_state_dict(given)

    @torch.inference_mode()
    def things(self, color: Image) -> list[Thing]:
        """What is seen in a (H, W, 3) uint8 RGB picture of any size, best first, no pixel twice. A second look from
        afar sees the things that fill the picture as one."""
        return sorted(_united(self._look(color, AREA_PX), self._look(color, FAR_AREA_PX)), key=lambda t: -t.score)

    def _look(self, color: Image, area_px: int) -> list[Thing]:
        maps = self.net(torch.from_numpy(_seen(color, area_px).transpose(2, 0, 1))[None])
        labels, scores = group(maps)
        foreground = maps.foreground[0, 0].sigmoid().numpy()
        masks = [full_size(labels == k, foreground, color.shape[:2]) for k in range(1, len(scores) + 1)]
        return [Thing(mask, score) for mask, score in zip(masks, scores, strict=True) if mask.any()]


def _united(near: list[Thing], far: list[Thing]) -> list[Thing]:
    """The things seen near, where the pieces of a large thing that was seen from afar are made one."""
    for large in far:
        if large.mask.mean() < LARGE:
            continue
        inside = [float((t.mask & large.mask).sum() / t.mask.sum()) for t in near]
        pieces = [t for t, share in zip(near, inside, strict=True) if share > PIECE_INSIDE]
        others = [t for t, share in zip(near, inside, strict=True) if share <= PIECE_INSIDE]
        if any((t.mask & large.mask).sum() > SAME * (t.mask | large.mask).sum() for t in near):
            continue
        mask = np.any([large.mask, *(t.mask for t in pieces)], axis=0)
        mask &= ~np.any([t.mask for t in others], axis=0) if others else True
        if mask.any():
            near = [*others, Thing(mask, max(large.score, *(t.score for t in pieces), 0.0))]
    return near


def _seen(color: Image, area_px: int) -> Image:
    """The picture at the network's size: about `area_px` pixels, sides divisible by 32."""
    height, width = color.shape[:2]
    scale = (area_px / (height * width)) ** 0.5
    sides = (min(width, 8 * height) * scale, min(height, 8 * width) * scale)  # longer pictures are squeezed
    size = [max(LEAST_SIDE_PX, round(side / 32) * 32) for side in sides]
    return np.asarray(cv2.resize(color, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))


def group(maps: Maps) -> tuple[NDArray[np.uint8], list[float]]:
    """(h/4, w/4) labels of the first picture's things from 1, 0 = background, and their scores.

    Greedy: the most confident foreground cell that is still free gathers all free cells whose votes agree with its own.
    """
    votes, spread, seeds = maps.votes[0].flatten(1), maps.spread[0, 0].flatten(), maps.seeds[0, 0].sigmoid().flatten()
    shape = maps.seeds.shape[-2:]
    solid = F.max_pool2d(maps.foreground.sigmoid(), 2)[0, 0].flatten() > INSIDE
    free = solid.clone()
    labels = torch.zeros(len(seeds), dtype=torch.uint8)
    scores: list[float] = []
    while len(scores) < MOST_THINGS:
        best = int(torch.where(free, seeds, -1).argmax())
        if not free[best] or seeds[best] < SEED_ABOVE:
            break
        close = closeness(votes, votes[:, best][None], spread[best][None])[0] > INSIDE
        own = close & free
        free &= ~own
        free[best] = False
        if own.sum() < MIN_CELLS or own.sum() < 0.5 * (close & solid).sum():
            continue
        scores.append(float(seeds[own].mean()))
        labels[own] = len(scores)
    return _adopted(labels.view(shape).numpy(), solid.view(shape).numpy()), scores


def _adopted(labels: NDArray[np.uint8], solid: Mask) -> NDArray[np.uint8]:
    """Labels in which foreground that no thing gathered belongs to the thing it touches most."""
    out = labels.copy()
    count, pieces = cv2.connectedComponents((solid & (labels == 0)).astype(np.uint8), connectivity=4)
    around = np.stack([np.roll(np.pad(labels, 1), shift, axis)[1:-1, 1:-1] for shift in (-1, 1) for axis in (0, 1)])
    for k in range(1, count):
        touching = np.bincount(around[:, pieces == k].ravel(), minlength=2)[1:]
        if touching.any():
            out[pieces == k] = 1 + int(touching.argmax())
    return out


def full_size(cells: Mask, foreground: NDArray[np.float32], shape: tuple[int, int]) -> Mask:
    """(H, W) mask of one thing from its cells at stride 4 and the foreground at stride 2, without specks and with its
    small holes filled; may be empty."""
    out = np.zeros(shape, bool)
    own = cv2.resize(cells.astype(np.uint8), foreground.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    share = np.where(own, foreground, 0).astype(np.float32)
    near = cv2.dilate(_without_specks(share > INSIDE).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if not near.any():
        return out
    share[~near] = 0
    x0, y0, x1, y1 = box_of(near)
    step_x, step_y = foreground.shape[1] / shape[1], foreground.shape[0] / shape[0]
    left, top, right, bottom = int(x0 / step_x), int(y0 / step_y), math.ceil(x1 / step_x), math.ceil(y1 / step_y)
    to_source = np.array([[step_x, 0, (left + 0.5) * step_x - 0.5], [0, step_y, (top + 0.5) * step_y - 0.5]])
    flags, size = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, (right - left, bottom - top)
    fine = cv2.warpAffine(share, to_source, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    out[top:bottom, left:right] = (fine > INSIDE)[: shape[0] - top, : shape[1] - left]
    return out


def _without_specks(mask: Mask, speck: float = 0.04, hole: float = 0.01) -> Mask:
    """The mask without pieces under `speck` of its area, and with holes under `hole` of it filled."""
    total = mask.sum()
    for value, least in ((True, speck), (False, hole)):
        _, pieces, stats, _ = cv2.connectedComponentsWithStats((mask == value).astype(np.uint8), connectivity=8)
        small = stats[:, cv2.CC_STAT_AREA] < least * total
        small[0] = False
        mask = mask ^ small[pieces]
    return mask


def export(net: ObjectnessNet | dict[str, Tensor], folder: Path) -> None:
    """Write the head's weights in half precision."""
    folder.mkdir(parents=True, exist_ok=True)
    state = net if isinstance(net, dict) else net.head.state_dict()
    save_file({name: value.half().contiguous() for name, value in state.items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
