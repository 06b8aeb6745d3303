"""The camera of the simulated cell behind an emulated controller.

The emulator says what state its scene is in; the picture is drawn here, in the client's own process, so that drawing
never holds up the controller.
"""

from __future__ import annotations

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import ArmName
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.sim.scene import build_spec, sample_scene
from affordagent.robot.sim.view import SceneView


class EmulatedCamera:
    """What the camera over the emulator's table sees. Use as a context manager, or call `close`.

    The frames carry the simulated camera's true `T_base_camera`. view: the scene at the last look, for evaluations.
    """

    serial = ""

    def __init__(self, host: str) -> None:
        self.host = host
        self._view: SceneView | None = None
        self._drawn: tuple[ArmName, str, int] | None = None

    def __enter__(self) -> EmulatedCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    @property
    def view(self) -> SceneView:
        """The scene and its state at the last look.

        Raises:
            AffordAgentError: there was none.
        """
        if self._view is None:
            raise AffordAgentError("the emulated camera has not looked yet: call look() first")
        return self._view

    def look(self) -> RgbdFrame:
        """Drawing the first picture of a scene takes some seconds, later ones a fraction of one.

        Raises:
            StageFailure: ("look", "camera.no_frame"): no emulator answers on the host, or it has no scene.
            AffordAgentError: nothing can be drawn here.
        """
        try:
            with EmulatorClient(self.host) as client:
                view = self._view_of(client)  # may take seconds: before the state is asked for
                view.remember(client.snapshot()["qpos"])
        except StageFailure:
            raise
        except AffordAgentError as error:
            raise StageFailure("look", "camera.no_frame", f"the emulated camera sees nothing: {error}") from error
        return view.look(f"emulator:{self.host}:{view.scene.name}-{view.scene.seed}")

    def _view_of(self, client: EmulatorClient) -> SceneView:
        scene = client.state()["scene"]
        if scene is None:
            raise StageFailure(
                "look",
                "camera.no_frame",
                f"the emulator on {self.host} runs without a scene, there is nothing to look at: start it with one "
                "(`affordagent emulator --scene bench`), or name another source under [camera] in the settings",
            )
        drawn = (client.snapshot()["arm"], scene["name"], scene["seed"])
        if self._view is None or self._drawn != drawn:
            self.close()
            arm, name, seed = self._drawn = drawn
            sampled = sample_scene(name, seed)
            self._view = SceneView(sampled, build_spec(sampled, arm=arm).compile())
        return self._view
