"""Who proposes hand poses. All backends serve the same `propose`, which filters, ranks and thins what they propose."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import PartCloud, RgbdFrame
from affordagent.tools.grasping.antipodal import Candidates
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
            StageFailure: ("propose", grasp.none | grasp.too_wide | grasp.collides_surface).
        """
        ...


def open_backend(spec: str) -> Backend:
    """antipodal | contact-graspnet:FILE | graspnet-baseline:FILE | graspgen:URL.

    Raises:
        AffordAgentError: no such backend.
    """
    raise AffordAgentError(f"no grasp backend '{spec}'")
