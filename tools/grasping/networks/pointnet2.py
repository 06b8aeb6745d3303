"""The point operations of PointNet++ (Qi et al., NeurIPS 2017) in plain torch, with the rules of its CUDA kernels.

One cloud at a time, no batches. Where a query finds more neighbours than asked for, the kernels keep those with the
lowest indices, not the nearest ones; networks were trained so, and are wrong otherwise. So clouds come shuffled.
The kernels' farthest point sampling also passes over points within 3 cm of the origin, the camera; not so here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 256  # centres looked at together, which bounds the memory


def farthest_points(xyz: Tensor, count: int) -> Tensor:
    """(count,) int64 indices of points (N, 3), each the farthest from those before it, the first one first.

    The points chosen from points that were so chosen are their first ones: order is kept.

    Raises:
        ValueError: there are fewer points than asked for.
    """
    if count > len(xyz):
        raise ValueError(f"{count} of {len(xyz)} points cannot be sampled")
    x, y, z = xyz.unbind(1)
    x, y, z = x.contiguous(), y.contiguous(), z.contiguous()
    nearest = torch.full((len(xyz),), torch.inf, dtype=xyz.dtype)
    chosen = torch.zeros(count, dtype=torch.int64)
    last = 0
    for i in range(1, count):
        square = (x - x[last]).square_()
        square += (y - y[last]).square_()
        square += (z - z[last]).square_()
        torch.minimum(nearest, square, out=nearest)
        last = int(nearest.argmax())
        chosen[i] = last
    return chosen


@dataclass(frozen=True)
class Groups:
    """Neighbours of centres. index (E,): of the points, row by row; count (M,): how many of them each centre has."""

    index: Tensor
    count: Tensor

    @property
    def centre(self) -> Tensor:
        """(E,) the centre that each neighbour belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.count)), self.count)

    def padded(self, limit: int) -> Tensor:
        """(M, limit) positions in `index`: those of a centre, then its first one again; as the kernels pad."""
        start = torch.cumsum(self.count, 0) - self.count
        step = torch.arange(limit).expand(len(self.count), limit)
        return start[:, None] + torch.where(step < self.count[:, None], step, 0)

    def maximum(self, values: Tensor) -> Tensor:
        """(M, C) greatest of the values (E, C) of each centre's neighbours; every centre needs one."""
        return values[self.padded(int(self.count.max()))].amax(1)


def _within(xyz: Tensor, centres: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """All pairs nearer than `radius`: centre (P,), point (P,), squared distance (P,), sorted by centre, then point."""
    parts = []
    for start in range(0, len(centres), CHUNK):
        square = torch.zeros((len(centres[start : start + CHUNK]), len(xyz)), dtype=xyz.dtype)
        for axis in range(3):
            square += (xyz[None, :, axis] - centres[start : start + CHUNK, None, axis]).square_()
        row, column = (square < radius * radius).nonzero(as_tuple=True)
        parts.append((row + start, column, square[row, column]))
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _first(row: Tensor, point: Tensor, centres: int, limit: int) -> Groups:
    """The first `limit` points of each row of a sorted list of pairs."""
    found = torch.bincount(row, minlength=centres)
    rank = torch.arange(len(row)) - torch.repeat_interleave(torch.cumsum(found, 0) - found, found)
    return Groups(point[rank < limit], found.clamp(max=limit))


def _or_zero(groups: Groups) -> Groups:
    """Centres without a neighbour get point 0, as the kernels leave it."""
    empty = groups.count == 0
    if not empty.any():
        return groups
    position = torch.cumsum(groups.count, 0)[empty]
    index = torch.ones(len(groups.index) + int(empty.sum()), dtype=torch.bool)
    index[position + torch.arange(len(position))] = False
    filled = torch.zeros(len(index), dtype=torch.int64)
    filled[index] = groups.index
    return Groups(filled, groups.count.clamp(min=1))


def ball_query(xyz: Tensor, centres: Tensor, radii: tuple[float, ...], limit: int) -> list[Groups]:
    """For each radius, at most `limit` points (N, 3) nearer to the centres (M, 3) than it, lowest indices first;
    point 0 where there is none."""
    row, point, square = _within(xyz, centres, max(radii))
    groups = []
    for radius in radii:
        near = square < radius * radius
        groups.append(_or_zero(_first(row[near], point[near], len(centres), limit)))
    return groups


def cylinder_query(
    xyz: Tensor, centres: Tensor, rotation: Tensor, radius: float, low: float, highs: tuple[float, ...], limit: int
) -> list[Groups]:
    """For each upper end, at most `limit` points (N, 3) in the cylinder about the x axis of `rotation` (M, 3, 3) (its
    columns are the cylinder's axes) through the centres (M, 3), from `low` to it; lowest indices first; point 0 where
    there is none."""
    row, point, _ = _within(xyz, centres, (radius**2 + max(-low, *highs) ** 2) ** 0.5)
    local = torch.einsum("pi,pij->pj", xyz[point] - centres[row], rotation[row])
    near = (local[:, 1].square() + local[:, 2].square() < radius * radius) & (local[:, 0] > low)
    groups = []
    for high in highs:
        inside = near & (local[:, 0] < high)
        groups.append(_or_zero(_first(row[inside], point[inside], len(centres), limit)))
    return groups


def three_nearest(xyz: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances (N, 3) and indices (N, 3) of the three known points (M, 3) nearest to each point (N, 3)."""
    square = sum(((xyz[:, None, axis] - known[None, :, axis]).square() for axis in range(3)), torch.zeros(()))
    nearest = torch.topk(square, 3, dim=1, largest=False)
    return nearest.values, nearest.indices


def interpolate(features: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """(N, C) weighted means of features (M, C), at indices (N, 3) with weights (N, 3) that need not add up to 1."""
    weight = weight / weight.sum(1, keepdim=True)
    return (features[index] * weight[..., None]).sum(1)
