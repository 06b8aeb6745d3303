"""The truth about a motion that ran through the emulated controller, for evaluations. Tools never see it."""

from __future__ import annotations

from affordagent.core.types import FunctionalQuery, Mask, Verdict
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.sim.contacts import PhaseLog
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.view import SceneView


def contacts_of(client: EmulatorClient) -> dict[str, PhaseLog]:
    """What was touched since the scene began, by the phases that `client.phase` named.

    Raises:
        AffordAgentError: the emulator does not answer, or drives a plain plant.
    """
    return {name: PhaseLog.from_json(record) for name, record in client.log().items()}


def judge(
    client: EmulatorClient, looked: SceneView, object_mask: Mask, query: FunctionalQuery, gold: Gold | None = None
) -> Verdict:
    """The strict judge of `robot.sim.judge` on what the emulator logged.

    looked: the scene as it was before the motion (`EmulatedCamera.view`). object_mask, query, gold: see
    `robot.sim.view.SceneView.judge`.
    """
    return looked.judge(contacts_of(client), object_mask, query, gold)
