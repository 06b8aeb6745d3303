"""Who proposes hand poses. All backends serve the same `propose`, which filters, ranks and thins what they propose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.antipodal import Antipodal, Candidates
from affordagent.tools.grasping.completion import Surface
from affordagent.tools.grasping.gripper import ParallelGripper


class Backend(Protocol):
    """A source of hand poses. `load` gets models ready; it raises AffordAgentError where weights are missing."""

    @property
    def name(self) -> str: ...

    def load(self) -> None: ...

    def candidates(
        self,
        frame: RgbdFrame | None,
        cloud: PartCloud,
        part: Surface,
        gripper: ParallelGripper,
        rng: np.random.Generator,
    ) -> Candidates:
        """Hand poses on the part, of `gripper`, not yet checked against the surroundings.

        frame: the whole scene, for networks that need it. part: the completed surface of `cloud.part`.

        Raises:
            StageFailure: ("propose", grasp.none | grasp.too_wide | grasp.collides_surface | tool.unavailable).
        """
        ...


def _contact_graspnet(where: str) -> Backend:
    from affordagent.tools.grasping.learned import ContactGraspNetBackend

    return ContactGraspNetBackend(Path(where))


def _graspnet_baseline(where: str) -> Backend:
    from affordagent.tools.grasping.learned import GraspNetBaselineBackend

    return GraspNetBaselineBackend(Path(where))


def _graspgen(where: str) -> Backend:
    from affordagent.tools.grasping.graspgen import GraspGenBackend

    return GraspGenBackend(where)


def _npy(where: str) -> Backend:
    from affordagent.tools.grasping.external import NpyBackend

    return NpyBackend(Path(where))


WITH_WEIGHTS: dict[str, tuple[str, Callable[[str], Backend]]] = {
    "contact-graspnet": ("FILE", _contact_graspnet),
    "graspnet-baseline": ("FILE", _graspnet_baseline),
    "graspgen": ("tcp://HOST:PORT", _graspgen),
    "npy": ("FILE", _npy),
}


def open_backend(spec: str) -> Backend:
    """antipodal | contact-graspnet:FILE | graspnet-baseline:FILE | graspgen:tcp://HOST:PORT | npy:FILE.

    Nothing is read or asked before `load`.

    Raises:
        AffordAgentError: no such backend.
    """
    kind, _, where = spec.partition(":")
    if spec == Antipodal.name:
        return Antipodal()
    if kind in WITH_WEIGHTS and where:
        return WITH_WEIGHTS[kind][1](where)
    known = ", ".join([Antipodal.name, *(f"{name}:{form}" for name, (form, _) in WITH_WEIGHTS.items())])
    raise AffordAgentError(f"unknown grasp backend '{spec}'; use {known}")
