"""The run folder: everything a run saw, thought and did, written as it happens.

    events.jsonl        one JSON object a line: the start, every stage as it ends, the end
    query.json          the functional query
    frame_color.png, frame_depth.png, frame_camera.json
                        what the camera saw; `--cell frame:RUN/frame` runs on it again
    table.npz           plane, heights and proposals
    mask.png            the part to hold, 0/255, frame size; object_mask.png likewise
    part_mask.json      tool, confidence, presence and evidence of that mask
    painted_*           where a person marked the part: mask.png, and the picture it was marked on, as frame_*
    first_*, second_*   the same three files of each tool's answer, where a second one was asked
    destination_*       the same three files of the thing to put it into, onto or beside; blank masks = the table
    kept_free_*         the same three files of the part that is left to the person who takes the object
    cloud.npz           part, object and obstacles in the base frame, metres
    grasps.json         backend, gripper; poses in camera and base frame, width, score and its terms
    plan.json, plan.npz the chosen grasp, those rejected before it, the joint trajectories
    motions.sqlite      what the arm was told and what came of it (`core.journal`)
    checkpoints.sqlite  how far the graph has come, for `affordagent resume`
    after_*             what the camera saw after the motion: the same three files as frame_*
    sensed_verdict.json was the job done, by the cell's own sensors
    verdict.json        was the job done: the simulator's truth, or, where nobody knows that, the sensors' verdict
    run.json            the result: outcome, query, stages, versions; there once the run has ended

Each kind has one writer and one reader here, so a stage can be replayed from its folder. Files are replaced whole: a
process that is killed leaves none half written.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, with_exact_rotation
from affordagent.core.types import (
    Delivery,
    FunctionalQuery,
    Grasp,
    GraspPlan,
    GraspSet,
    JointTrajectory,
    ObjectProposal,
    PaintedMask,
    PartCloud,
    PartMask,
    RgbdFrame,
    TableScene,
    Verdict,
)

EVENTS_FILE = "events.jsonl"
DEPTH_UNIT_M = 1e-4  # uint16 pictures reach 6.5 m
UNREADABLE = (OSError, ValueError, LookupError, TypeError, EOFError, BadZipFile, zlib.error)
"""What reading a damaged file raises: no file, no JSON, no such field, no PNG, no npz."""


@contextmanager
def _whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that takes the place of `path` once it is complete."""
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("wb") as file:
        yield file
    os.replace(scratch, path)


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader never sees half a file."""
    with _whole(path) as file:
        file.write(json.dumps(value, indent=1, default=_plain).encode() + b"\n")


def as_plain(value: Any) -> Any:
    """A copy of JSON's own types only: what a checkpoint may hold."""
    return json.loads(json.dumps(value, default=_plain))


def _write_picture(path: Path, pixels: NDArray[Any]) -> None:
    """(H, W) or (H, W, 3) RGB as PNG, by OpenCV: in half the time that Pillow takes."""
    _, code = cv2.imencode(".png", pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    with _whole(path) as file:
        file.write(code.tobytes())


def _write_arrays(path: Path, **arrays: Any) -> None:
    """As `np.savez_compressed`, which packs harder than is worth its time; float64, which hardly shrinks, as it is."""
    with _whole(path) as file, ZipFile(file, "w") as packed:
        for name, values in arrays.items():
            array, member = np.asanyarray(values), BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            kind = ZIP_STORED if array.dtype == np.float64 else ZIP_DEFLATED
            packed.writestr(f"{name}.npy", member.getvalue(), kind, compresslevel=1)


def _plain(value: Any) -> Any:
    """numpy values as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


class RunStore:
    """One run's folder. `put` writes an artefact and keeps it at hand; `get` returns it, reading it when needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # made with the first thing written
        self._memory: dict[str, Any] = {}

    def event(self, kind: str, **fields: Any) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **fields}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / EVENTS_FILE).open("ab+") as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                file.write(b"\n")  # after the half line of a process that was killed
            file.write(json.dumps(line, default=_plain).encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """All lines so far; the half line of a process that was killed is left out."""
        path = self.folder / EVENTS_FILE
        return [event for line in path.read_bytes().splitlines() if (event := _event(line))] if path.exists() else []

    def put(self, name: str, value: Any) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        WRITERS[name](self.folder, value)
        self._memory[name] = value

    def has(self, name: str) -> bool:
        return name in self._memory or (self.folder / _MARKER[name]).exists()

    def get(self, name: str) -> Any:
        """The artefact `name`.

        Raises:
            AffordAgentError: the run never got as far as writing it.
        """
        if name not in self._memory:
            if not self.has(name):
                raise AffordAgentError(f"{self.folder} holds no {_MARKER[name]}: the run ended before it was made")
            self._memory[name] = READERS[name](self.folder)
        return self._memory[name]

    def readable(self, name: str) -> Any | None:
        """The artefact `name`; None where it is missing, or cannot be read: for looking at a run that is under way, or
        whose folder is damaged."""
        try:
            return self.get(name) if self.has(name) else None
        except (AffordAgentError, *UNREADABLE):
            return None


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def write_frame(prefix: Path, frame: RgbdFrame) -> None:
    """PREFIX_color.png, PREFIX_depth.png (uint16, 0.1 mm, 0 = none), PREFIX_camera.json."""
    _write_picture(Path(f"{prefix}_color.png"), frame.color)
    units = np.clip(np.round(frame.depth_m / DEPTH_UNIT_M), 0, 65535).astype(np.uint16)
    _write_picture(Path(f"{prefix}_depth.png"), units)
    camera: dict[str, Any] = {**asdict(frame.camera), "depth_unit_m": DEPTH_UNIT_M, "depth_invalid": 0}
    if frame.T_base_camera is not None:
        camera["T_base_camera"] = frame.T_base_camera
    camera |= {"stamp_s": frame.stamp_s, "source": frame.source}
    write_json(Path(f"{prefix}_camera.json"), camera)


def _read_frame(folder: Path, prefix: str = "frame") -> RgbdFrame:
    camera = json.loads((folder / f"{prefix}_camera.json").read_text())
    T = camera.get("T_base_camera")
    return RgbdFrame(
        np.array(Image.open(folder / f"{prefix}_color.png")),
        (np.array(Image.open(folder / f"{prefix}_depth.png")) * camera["depth_unit_m"]).astype(np.float32),
        CameraIntrinsics(**{k: camera[k] for k in ("width", "height", "fx", "fy", "cx", "cy")}),
        None if T is None else np.array(T),
        camera["stamp_s"],
        camera["source"],
    )


def _write_query(folder: Path, query: FunctionalQuery) -> None:
    write_json(folder / "query.json", query.model_dump())


def _read_query(folder: Path) -> FunctionalQuery:
    return FunctionalQuery.model_validate_json((folder / "query.json").read_text())


def _write_table(folder: Path, scene: TableScene) -> None:
    masks = np.array([p.mask for p in scene.proposals], bool).reshape(-1, *scene.height_m.shape)
    _write_arrays(
        folder / "table.npz",
        plane_camera=scene.plane_camera,
        height_m=scene.height_m.astype(np.float16),
        masks=np.packbits(masks, axis=-1),
        boxes=np.array([p.box for p in scene.proposals], int).reshape(-1, 4),
        ids=np.array([p.id for p in scene.proposals], int),
    )


def _read_table(folder: Path) -> TableScene:
    with np.load(folder / "table.npz", allow_pickle=False) as data:
        height = data["height_m"].astype(np.float32)
        masks = np.unpackbits(data["masks"], axis=-1, count=height.shape[1]).astype(bool)
        rows = zip(data["ids"].tolist(), masks, data["boxes"].tolist(), strict=True)
        return TableScene(data["plane_camera"], height, [ObjectProposal(i, m, tuple(b)) for i, m, b in rows])


def _write_part_mask(folder: Path, part: PartMask, prefix: str = "") -> None:
    for name, mask in (("mask", part.mask), ("object_mask", part.object_mask)):
        _write_picture(folder / f"{prefix}{name}.png", mask.astype(np.uint8) * 255)
    fields = {"tool": part.tool, "confidence": part.confidence, "presence": part.presence, "evidence": part.evidence}
    write_json(folder / f"{prefix}part_mask.json", fields)


def _read_part_mask(folder: Path, prefix: str = "") -> PartMask:
    mask, object_mask = (np.array(Image.open(folder / f"{prefix}{name}.png")) > 127 for name in ("mask", "object_mask"))
    return PartMask(mask, object_mask, **json.loads((folder / f"{prefix}part_mask.json").read_text()))


def _write_painted(folder: Path, painted: PaintedMask) -> None:
    write_frame(folder / "painted", painted.frame)
    _write_picture(folder / "painted_mask.png", painted.mask.astype(np.uint8) * 255)


def _read_painted(folder: Path) -> PaintedMask:
    return PaintedMask(np.array(Image.open(folder / "painted_mask.png")) > 127, _read_frame(folder, "painted"))


def _write_cloud(folder: Path, cloud: PartCloud) -> None:
    _write_arrays(folder / "cloud.npz", **asdict(cloud))


def _read_cloud(folder: Path) -> PartCloud:
    with np.load(folder / "cloud.npz", allow_pickle=False) as data:
        fields: dict[str, Any] = {k: float(data[k]) if data[k].ndim == 0 else data[k] for k in data.files}
        return PartCloud(**fields)


def _write_grasps(folder: Path, value: tuple[GraspSet, Array]) -> None:
    grasps, T_base_camera = value
    records = [g.as_json(T_base_camera) for g in grasps]
    write_json(folder / "grasps.json", {"backend": grasps.backend, "gripper": grasps.gripper, "grasps": records})


def _grasp_from_json(record: dict[str, Any]) -> Grasp:
    """The file's digits are cut: the rotation is made one again."""
    T = with_exact_rotation(np.array(record["T_base_tcp"]))
    return Grasp(T, record["width_m"], record["score"], record["terms"])


def _read_grasps(folder: Path) -> tuple[GraspSet, Array]:
    camera = json.loads((folder / "frame_camera.json").read_text())
    file = json.loads((folder / "grasps.json").read_text())
    if isinstance(file, list):  # release 0.1 wrote the records alone
        file = {"backend": "antipodal", "gripper": "Robotiq 2F-85", "grasps": file}
    grasps = [_grasp_from_json(record) for record in file["grasps"]]
    return GraspSet.of(grasps, file["gripper"], file["backend"]), np.array(camera["T_base_camera"])


_PATHS = ("to_pregrasp", "approach", "lift")
_DELIVERY_PATHS = ("carry", "lower", "retreat")


def _write_plan(folder: Path, plan: GraspPlan) -> None:
    paths: dict[str, JointTrajectory] = {name: getattr(plan, name) for name in _PATHS}
    fields: dict[str, Any] = {
        "grasp_index": plan.grasp_index,
        "opening_m": plan.opening_m,
        "grasp": plan.grasp.as_json(np.eye(4)),
        "rejected": plan.rejected,
        "delivery": None,
    }
    if plan.delivery is not None:
        there = plan.delivery
        paths |= {name: path for name in _DELIVERY_PATHS if (path := getattr(there, name)) is not None}
        fields["delivery"] = {
            "kind": there.kind,
            "T_base_tcp": there.T_base_tcp,
            "move_index": there.move_index,
            "opening_m": there.opening_m,
        }
    arrays = {f"{name}_positions": path.positions for name, path in paths.items()}
    arrays |= {f"{name}_times_s": path.times_s for name, path in paths.items()}
    _write_arrays(folder / "plan.npz", **arrays)
    write_json(folder / "plan.json", {**fields, "duration_s": {n: path.duration_s for n, path in paths.items()}})


def _read_plan(folder: Path) -> GraspPlan:
    fields = json.loads((folder / "plan.json").read_text())
    with np.load(folder / "plan.npz", allow_pickle=False) as data:
        paths = {n: JointTrajectory(data[f"{n}_positions"], data[f"{n}_times_s"]) for n in fields["duration_s"]}
    delivery = None
    if there := fields.get("delivery"):  # a run of an older version has none
        delivery = Delivery(
            there["kind"],
            np.array(there["T_base_tcp"]),
            there["move_index"],
            carry=paths["carry"],
            lower=paths.get("lower"),
            retreat=paths["retreat"],
            opening_m=there["opening_m"],
        )
    return GraspPlan(
        _grasp_from_json(fields["grasp"]),
        fields["grasp_index"],
        fields["opening_m"],
        **{name: paths[name] for name in _PATHS},
        rejected=fields["rejected"],
        delivery=delivery,
    )


def _write_verdict(folder: Path, verdict: Verdict, prefix: str = "") -> None:
    write_json(folder / f"{prefix}verdict.json", asdict(verdict))


def _read_verdict(folder: Path, prefix: str = "") -> Verdict:
    return Verdict(**json.loads((folder / f"{prefix}verdict.json").read_text()))


WRITERS: dict[str, Callable[[Path, Any], None]] = {
    "query": _write_query,
    "frame": lambda folder, frame: write_frame(folder / "frame", frame),
    "table": _write_table,
    "painted": _write_painted,
    "part_mask": _write_part_mask,
    "first_answer": partial(_write_part_mask, prefix="first_"),
    "second_answer": partial(_write_part_mask, prefix="second_"),
    "destination": partial(_write_part_mask, prefix="destination_"),
    "kept_free": partial(_write_part_mask, prefix="kept_free_"),
    "cloud": _write_cloud,
    "grasps": _write_grasps,
    "plan": _write_plan,
    "after": lambda folder, frame: write_frame(folder / "after", frame),
    "sensed_verdict": partial(_write_verdict, prefix="sensed_"),
    "verdict": _write_verdict,
}
READERS: dict[str, Callable[[Path], Any]] = {
    "query": _read_query,
    "frame": _read_frame,
    "table": _read_table,
    "painted": _read_painted,
    "part_mask": _read_part_mask,
    "first_answer": partial(_read_part_mask, prefix="first_"),
    "second_answer": partial(_read_part_mask, prefix="second_"),
    "destination": partial(_read_part_mask, prefix="destination_"),
    "kept_free": partial(_read_part_mask, prefix="kept_free_"),
    "cloud": _read_cloud,
    "grasps": _read_grasps,
    "plan": _read_plan,
    "after": partial(_read_frame, prefix="after"),
    "sensed_verdict": partial(_read_verdict, prefix="sensed_"),
    "verdict": _read_verdict,
}
_MARKER = {
    "query": "query.json",
    "frame": "frame_camera.json",
    "table": "table.npz",
    "painted": "painted_mask.png",
    "part_mask": "part_mask.json",
    "first_answer": "first_part_mask.json",
    "second_answer": "second_part_mask.json",
    "destination": "destination_part_mask.json",
    "kept_free": "kept_free_part_mask.json",
    "cloud": "cloud.npz",
    "grasps": "grasps.json",
    "plan": "plan.json",
    "after": "after_camera.json",
    "sensed_verdict": "sensed_verdict.json",
    "verdict": "verdict.json",
}
