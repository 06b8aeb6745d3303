"""trace.rrd: a run as a Rerun recording, made from its folder alone; a run that ended half-way has what there was.

    world/camera            pinhole, pose, the picture (color), depth, mask, things (boxes of all candidates)
    world/cloud             part, object, obstacles
    world/grasps            the gripper at each grasp; world/grasps/chosen, world/path
    arm                     joints and tcp along the planned motion, on the timeline `motion`
    stages/STAGE            1 while it ran, else 0
    log                     what each stage said, and each motion that was sent

The timeline `run` counts seconds since the run began, `motion` those of the planned motion. The format is Rerun's
(rerun.io, package rerun-sdk); nothing is sent anywhere.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from affordagent.agent.clock import Clock
from affordagent.agent.pictures import DESTINATION_RGB, GRASPS_DRAWN, OBJECT_RGB, PART_RGB, fork
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array
from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.core.run_store import DEPTH_UNIT_M, RunStore
from affordagent.core.types import GraspPlan, PartCloud, RgbdFrame

if TYPE_CHECKING:
    import rerun as rr

TRACE_FILE = "trace.rrd"  # in the run folder
APPLICATION = "affordagent"
RUN, MOTION = "run", "motion"  # timelines, seconds
OBJECT, PART, DESTINATION = 1, 2, 3  # classes of the mask
OBSTACLE_RGB, PATH_RGB, GRASP_RGB, CHOSEN_RGB = (130, 130, 130), (240, 150, 20), (60, 120, 220), (230, 40, 30)
POINT_M = 0.0015  # radius of a drawn point
PATH_POINTS = 300
LEVELS = {"ok": "INFO", "failed": "ERROR", "refused": "WARN", "needs_clarification": "WARN"}


def check_rerun() -> None:
    """Before a run: is the extra there?

    Raises:
        AffordAgentError: it is not.
    """
    if importlib.util.find_spec("rerun") is None:
        raise AffordAgentError("a Rerun trace needs the package rerun-sdk: pip install 'affordagent[rerun]'")


def write_trace(folder: Path, store: RunStore | None = None) -> Path:
    """Write FOLDER/trace.rrd and return its path. store: of the folder, where its artefacts are at hand.

    Raises:
        AffordAgentError: the extra is missing, or the folder holds no run.
    """
    check_rerun()
    import rerun as rr

    store = store or RunStore(folder)
    clock = Clock.of(store)
    path, scratch = folder / TRACE_FILE, folder / f"{TRACE_FILE}.part"
    recording = rr.RecordingStream(APPLICATION, recording_id=f"{folder.resolve().name}-{clock.began.isoformat()}")
    try:
        recording.save(scratch, default_blueprint=_blueprint())
        _Writer(recording, store, clock).write()
    finally:
        recording.flush()
        recording.disconnect()
    os.replace(scratch, path)
    return path


@dataclass(frozen=True)
class _Writer:
    """recording: that is written to. Artefacts are shown from the moment on at which their stage ended."""

    recording: rr.RecordingStream
    store: RunStore
    clock: Clock

    def write(self) -> None:
        self._text()
        frame: RgbdFrame | None = self.store.readable("frame")
        if frame is not None:
            self._camera(frame)
        if (cloud := self.store.readable("cloud")) is not None:
            self._cloud(cloud)
        plan: GraspPlan | None = self.store.readable("plan")
        if (grasps := self.store.readable("grasps")) is not None:
            self._grasps(grasps[0], plan)
        if plan is not None:
            self._motion(plan)

    def _at(self, seconds: float) -> None:
        self.recording.set_time(RUN, duration=seconds)

    def _text(self) -> None:
        """Stages as spans, and what they and the motions said."""
        import rerun as rr

        for span in self.clock.spans:
            self.recording.send_columns(
                f"stages/{span.stage}",
                [rr.TimeColumn(RUN, duration=[span.from_s, span.to_s])],
                rr.Scalars.columns(scalars=[1.0, 0.0]),
            )
        seconds, levels, texts = zip(*sorted(self._lines(), key=lambda line: line[0]), strict=True)
        said = rr.TextLog.columns(text=texts, level=levels)
        self.recording.send_columns("log", [rr.TimeColumn(RUN, duration=seconds)], said)

    def _lines(self) -> Iterator[tuple[float, str, str]]:
        """Seconds, level and text of all that was said."""
        yield 0.0, "INFO", self.clock.command
        for span in self.clock.spans:
            record = span.record
            code = f" [{record['code']}]" if record["code"] else ""
            yield span.to_s, LEVELS[record["status"]], f"{span.stage}: {record['message']}{code}"
        for motion in read_motions(self.store.folder / MOTIONS_FILE):
            yield self.clock.at(motion.begun), "INFO", f"{motion.step} is sent"
            if motion.ended is not None and motion.result is not None and not motion.result.get("reached", True):
                yield self.clock.at(motion.ended), "ERROR", f"{motion.step}: {motion.result.get('message', '')}"
        if self.clock.end is not None:
            yield self.clock.at(self.clock.end["time"]), "INFO", f"outcome: {self.clock.end['outcome']}"

    def _camera(self, frame: RgbdFrame) -> None:
        import rerun as rr

        log, camera = self.recording.log, frame.camera
        log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        if frame.T_base_camera is not None:
            T = frame.T_base_camera
            log("world/camera", rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]), static=True)
        matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
        size = (camera.width, camera.height)
        pinhole = rr.Pinhole(image_from_camera=matrix, resolution=size, camera_xyz=rr.ViewCoordinates.RDF)
        log("world/camera", pinhole, static=True)
        self._at(self.clock.after("look"))
        log("world/camera/color", self._picture("frame"))
        units = np.round(frame.depth_m / DEPTH_UNIT_M).astype(np.uint16)
        log("world/camera/depth", rr.DepthImage(units, meter=1 / DEPTH_UNIT_M))
        self._things()
        self._mask()
        if self.store.has("after"):
            self._at(self.clock.after("verify"))
            log("world/camera/color", self._picture("after"))

    def _picture(self, prefix: str) -> rr.EncodedImage:
        """The file as it is: nothing is coded anew."""
        import rerun as rr

        file = self.store.folder / f"{prefix}_color.png"
        return rr.EncodedImage(contents=file.read_bytes(), media_type="image/png")

    def _things(self) -> None:
        """The boxes of all that stands on the table; with the scores of the tool that gave them."""
        import rerun as rr

        table, part = self.store.readable("table"), self.store.readable("part_mask")
        if table is None or not table.proposals:
            return
        shares = (part.evidence.get("shares") or {}) if part is not None else {}
        boxes = np.array([p.box for p in table.proposals], float)
        labels = [
            f"{p.id}: {float(shares[str(p.id)]):.2f}" if str(p.id) in shares else f"{p.id}" for p in table.proposals
        ]
        self.recording.log(
            "world/camera/things", rr.Boxes2D(array=boxes, array_format=rr.Box2DFormat.XYXY, labels=labels)
        )

    def _mask(self) -> None:
        """The object, its part and the destination as classes of one picture."""
        import rerun as rr

        part, there = self.store.readable("part_mask"), self.store.readable("destination")
        if part is None:
            return
        classes = np.zeros(part.mask.shape, np.uint8)
        if there is not None:
            classes[there.object_mask] = DESTINATION
        classes[part.object_mask] = OBJECT
        classes[part.mask] = PART
        names = [(OBJECT, "object", OBJECT_RGB), (PART, "part", PART_RGB), (DESTINATION, "there", DESTINATION_RGB)]
        self.recording.log("world/camera/mask", rr.AnnotationContext(names), static=True)
        self._at(self.clock.after("ground"))
        self.recording.log("world/camera/mask", rr.SegmentationImage(classes, opacity=0.5))

    def _cloud(self, cloud: PartCloud) -> None:
        import rerun as rr

        self._at(self.clock.after("lift"))
        for name, points, colour in (
            ("part", cloud.part, PART_RGB),
            ("object", cloud.object, OBJECT_RGB),
            ("obstacles", cloud.obstacles, OBSTACLE_RGB),
        ):
            self.recording.log(f"world/cloud/{name}", rr.Points3D(points, colors=colour, radii=POINT_M))

    def _grasps(self, grasps: Any, plan: GraspPlan | None) -> None:
        """The best of them, and the one that was chosen, open as wide as it will be."""
        import rerun as rr

        shown = grasps[:GRASPS_DRAWN]
        labels = [f"{i + 1}: {g.score:.2f}, {1e3 * g.width_m:.0f} mm" for i, g in enumerate(shown)]
        lines = rr.LineStrips3D([fork(g, g.width_m) for g in shown], colors=GRASP_RGB, labels=labels, show_labels=False)
        self._at(self.clock.after("propose"))
        self.recording.log("world/grasps", lines)
        if plan is not None:
            self._at(self.clock.after("plan"))
            chosen = rr.LineStrips3D([fork(plan.grasp, plan.opening_m)], colors=CHOSEN_RGB, radii=2 * POINT_M)
            self.recording.log("world/grasps/chosen", chosen)

    def _motion(self, plan: GraspPlan) -> None:
        """The tcp's way as a line, and joints and tcp over the seconds of the planned motion."""
        import rerun as rr

        from affordagent.robot.kinematics import chain_of

        positions, times_s = _thinned(*_joined(plan))
        chain = chain_of(self.clock.arm)
        tcp = chain.tcp(chain.links(positions))[:, :3, 3]
        self._at(self.clock.after("plan"))
        self.recording.log("world/path", rr.LineStrips3D([tcp], colors=PATH_RGB, radii=POINT_M))
        seconds = [rr.TimeColumn(MOTION, duration=times_s)]
        self.recording.send_columns("world/tcp", seconds, rr.Points3D.columns(positions=tcp))
        for joint in range(positions.shape[1]):
            values = rr.Scalars.columns(scalars=positions[:, joint])
            self.recording.send_columns(f"arm/joint_{joint + 1}_rad", seconds, values)


def _joined(plan: GraspPlan) -> tuple[Array, Array]:
    """(N, 6) rad and (N,) s of all motions, one after the other."""
    positions, times_s, now_s = [], [], 0.0
    for way in _ways(plan):
        positions.append(way.positions)
        times_s.append(now_s + way.times_s)
        now_s += way.duration_s
    return np.concatenate(positions), np.concatenate(times_s)


def _ways(plan: GraspPlan) -> Iterator[Any]:
    yield from (plan.to_pregrasp, plan.approach, plan.lift)
    if (there := plan.delivery) is not None:
        yield from (way for way in (there.carry, there.lower, there.retreat) if way is not None)


def _thinned(positions: Array, times_s: Array) -> tuple[Array, Array]:
    step = max(1, len(positions) // PATH_POINTS)
    return positions[::step], times_s[::step]


def _blueprint() -> Any:
    import rerun.blueprint as rrb

    seen = rrb.Vertical(
        rrb.Spatial2DView(origin="world/camera", name="camera"),
        rrb.TimeSeriesView(origin="stages", name="stages"),
        rrb.TextLogView(origin="log", name="log"),
    )
    moved = rrb.Vertical(
        rrb.Spatial3DView(origin="world", name="cell"),
        rrb.TimeSeriesView(origin="arm", name="joints"),
        row_shares=[3, 1],
    )
    return rrb.Blueprint(rrb.Horizontal(moved, seen), collapse_panels=True)
