"""Parametric household objects: a visual mesh per part and primitive colliders per part.

An object lives in its own frame: z up, resting on z = 0 in its stable pose, metres, kilograms. Visual meshes carry the
exact part labels; colliders carry the same part names, so contacts tell which part was touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import ArrayLike

from affordagent.core.geometry import Array, rigid

Material = str  # one of MATERIALS
MATERIALS = ("wood", "steel", "ceramic", "iron", "plastic", "rubber", "paper", "skin")
ColliderKind = Literal["box", "cylinder", "capsule", "sphere", "ellipsoid"]


@dataclass(frozen=True)
class Visual:
    part: str
    mesh: trimesh.Trimesh
    rgba: tuple[float, float, float, float]
    material: Material


@dataclass(frozen=True)
class Collider:
    """size: MuJoCo half sizes (box: x, y, z; cylinder, capsule: radius, half length along z; sphere: radius)."""

    part: str
    kind: ColliderKind
    size: tuple[float, ...]
    T_object_collider: Array
    mass_kg: float


@dataclass(frozen=True)
class Spring:
    """A part that gives way downwards by `travel_m` against a spring of `stiffness_n_m`."""

    travel_m: float
    stiffness_n_m: float


@dataclass
class HouseholdObject:
    """One instance of a category.

    part: name of the part to hold ("handle"), equal to the only part's name for things held anywhere ("body").
    colour: the colour word a person would use for the object as a whole.
    parameters: the sampled shape parameters, kept for the record.
    fixed: it stands fast on the table. springs: parts of a fixed thing that can be pressed.
    """

    category: str
    part: str
    colour: str
    parameters: dict[str, float] = field(default_factory=dict)
    visuals: list[Visual] = field(default_factory=list)
    colliders: list[Collider] = field(default_factory=list)
    fixed: bool = False
    springs: dict[str, Spring] = field(default_factory=dict)

    def only(self, parts: Sequence[str]) -> HouseholdObject:
        """The same thing with some of its parts."""
        visuals = [v for v in self.visuals if v.part in parts]
        return replace(self, visuals=visuals, colliders=[c for c in self.colliders if c.part in parts])

    @property
    def parts(self) -> list[str]:
        """Part names in order of first use."""
        return list(dict.fromkeys(v.part for v in self.visuals))

    @property
    def mass_kg(self) -> float:
        return sum(c.mass_kg for c in self.colliders)

    @property
    def bounds(self) -> Array:
        """(2, 3) lower and upper corner of the visual meshes in the object frame."""
        corners = np.array([v.mesh.bounds for v in self.visuals])  # (parts, 2, 3)
        return np.stack([corners[:, 0].min(0), corners[:, 1].max(0)])

    def add_visual(self, part: str, mesh: trimesh.Trimesh, rgba: ArrayLike, material: Material) -> None:
        r, g, b, a = (float(x) for x in np.asarray(rgba))
        self.visuals.append(Visual(part, mesh, (r, g, b, a), material))

    def add_collider(
        self,
        part: str,
        kind: ColliderKind,
        size: tuple[float, ...],
        position: ArrayLike = (0.0, 0.0, 0.0),
        rotation: ArrayLike | None = None,
        mass_kg: float = 0.01,
    ) -> None:
        T = rigid(np.eye(3) if rotation is None else rotation, position)
        self.colliders.append(Collider(part, kind, size, T, mass_kg))

    def add_rod(self, part: str, start: ArrayLike, end: ArrayLike, radius_m: float, mass_kg: float) -> None:
        """A capsule collider between two points (its round caps reach `radius_m` past them)."""
        a, b = np.asarray(start, float), np.asarray(end, float)
        length = float(np.linalg.norm(b - a))
        R = trimesh.geometry.align_vectors([0, 0, 1], (b - a) / length)[:3, :3]
        self.add_collider(part, "capsule", (radius_m, length / 2), (a + b) / 2, R, mass_kg)
