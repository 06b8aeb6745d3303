"""Whatever answers a text about a picture with one mask: the mini model, a published checkpoint, a server of one.

MiniSegmenter().segment(image, "pick up the red mug")  # RGB alone
MiniSegmenter().segment(image, "pick up the red mug", depth_m, camera)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.agent.settings import Settings
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import FunctionalQuery, Mask, RgbdFrame, TableScene, VlmAnswer
from affordagent.evaluations.masks import query_of
from affordagent.evaluations.segmentation_words import question_of, request_of
from affordagent.finetune.data.schema import Sample
from affordagent.robot.frame_cell import FrameCell
from affordagent.tools.affordance_vlm import SHIPPED_CHECKPOINT, AffordanceTool
from affordagent.tools.table import find_objects
from affordagent.tools.vlm import folder_of, kind_of, open_server, server_url

if TYPE_CHECKING:
    from affordagent.tools.vlm_wire import Vlm

Picture = NDArray[np.uint8]
Generation = Literal["free", "teacher-forced"]
COLOR_ENDING = "_color.png"
STAMP_BYTES = 1 << 16
PRESENT_ABOVE: float = Settings.model_fields["present_above"].default


@dataclass(frozen=True)
class Segmentation:
    """mask: (H, W) bool, empty for "no such thing here". confidence in [0, 1]: of the best mask, also where it was not
    enough. text: what the model said, or how the mini understood the text. evidence: small JSON-able facts."""

    mask: Mask
    confidence: float
    text: str
    evidence: dict[str, Any] = field(default_factory=dict)


class Segmenter(Protocol):
    def segment_row(self, sample: Sample, image: Picture, generation: Generation) -> Segmentation: ...


@dataclass(frozen=True)
class Depth:
    """What a row knows besides its picture. depth_m: (H, W) float32 metres, 0 = none, in the frame of `camera`."""

    depth_m: NDArray[np.float32]
    camera: CameraIntrinsics


class MiniSegmenter:
    """The mini AffordanceVLM as the pipeline uses it, without its fallback tool: language, proposals, pick, mask.

    Raises:
        AffordAgentError: the folder holds no checkpoint of it.
    """

    def __init__(self, checkpoint: Path | None = None, present_above: float = PRESENT_ABOVE) -> None:
        self.tool = AffordanceTool(checkpoint or SHIPPED_CHECKPOINT)
        self.present_above = present_above
        self.tool.load()

    def segment_row(self, sample: Sample, image: Picture, generation: Generation = "free") -> Segmentation:
        """The answer to a row; its depth is used where it has one.

        Raises:
            AffordAgentError: broken depth or camera; teacher forcing, which this model does not know.
        """
        if generation != "free":
            raise AffordAgentError("the mini model writes no reply that could be forced: use --generation free")
        depth, request = depth_of(sample, image), request_of(sample)
        if depth is None:
            return self.segment(image, request.text, whole=request.whole)
        return self.segment(image, request.text, depth.depth_m, depth.camera, request.whole)

    def segment(
        self,
        image: Picture,
        text: str,
        depth_m: NDArray[np.float32] | None = None,
        camera: CameraIntrinsics | None = None,
        whole: bool = False,
    ) -> Segmentation:
        """The part to hold of what the text means, or the whole thing; an empty mask where it is not in the picture.

        image: (H, W, 3) uint8 RGB. depth_m: (H, W) float32 metres, 0 = none, with its camera; without them, and where
        the depth shows no table with things on it, proposals come from the colours alone.
        """
        query = query_of(text)
        if whole:  # no part has to be in view
            query = query.model_copy(update={"part": None})
        blank = np.zeros(image.shape[:2], bool)
        try:
            frame, scene, source = _scene(image, depth_m, camera)
            parts = self.tool.find(frame, scene, query)
        except StageFailure as failure:
            if not failure.code.startswith("grounding."):
                raise
            return Segmentation(blank, 0.0, _reading(query), {"code": failure.code, "reason": failure.message})
        best = parts[0]
        mask = best.object_mask if whole else best.mask
        evidence = {"proposals": len(scene.proposals), "proposals_from": source, "whole": whole}
        evidence["part_from"] = best.evidence.get("part_from")
        if best.is_there < self.present_above:
            return Segmentation(blank, best.confidence, _reading(query), evidence | {"code": "grounding.not_found"})
        return Segmentation(mask, best.confidence, _reading(query), evidence)


class VlmSegmenter:
    """A model in the published format, here or behind a server; only the first mask of an answer counts."""

    def __init__(self, vlm: Vlm) -> None:
        self.vlm = vlm

    def segment_row(self, sample: Sample, image: Picture, generation: Generation = "free") -> Segmentation:
        """`confidence` is the mean probability of the mask's pixels."""
        question = question_of(sample)
        if generation == "free":
            answer = self.vlm.answer(image, question.text, prefix=question.prefix)
        else:
            answer = self.vlm.teacher_forced(image, question.text, question.reply, prefix=question.prefix)
        return first_mask(answer, image.shape)


def first_mask(answer: VlmAnswer, shape: tuple[int, ...]) -> Segmentation:
    """The first mask of an answer as the reference's programs take it; an empty one where it has none."""
    count = len(answer.mask_logits)
    if not count:
        return Segmentation(np.zeros(shape[:2], bool), 0.0, answer.text, {"masks": 0})
    logits = answer.mask_logits[0]
    mask = logits > 0
    confidence = float((1 / (1 + np.exp(-logits[mask].astype(np.float64)))).mean()) if mask.any() else 0.0
    return Segmentation(mask, confidence, answer.text, {"masks": count})


def open_segmenter(
    vlm: str = "mini",
    vision_tower: Path | None = None,
    present_above: float = PRESENT_ABOVE,
) -> Segmenter:
    """vlm: "mini", a folder (of a mini model or in the published format, told apart by its config.json), or the http
    address of a server.

    Raises:
        AffordAgentError: nothing there that can be loaded.
    """
    kind = kind_of(vlm)
    if kind == "server":
        return VlmSegmenter(open_server(vlm))
    if kind == "mini":
        return MiniSegmenter(folder_of(vlm), present_above)
    from affordagent.finetune.vlm.predictor import VlmPredictor

    return VlmSegmenter(VlmPredictor(folder_of(vlm), vision_tower))


def identity_of(vlm: str) -> dict[str, Any]:
    """What tells a model from another, without loading it: a server's URL, or size and hash of each file of weights.

    Raises:
        AffordAgentError: no such folder.
    """
    kind = kind_of(vlm)
    if kind == "server":
        return {"kind": kind, "url": server_url(vlm)}
    files = sorted(path for path in folder_of(vlm).iterdir() if path.suffix in (".bin", ".safetensors"))
    return {"kind": kind, "weights": {path.name: _stamp(path) for path in files}}


def depth_of(sample: Sample, image: Picture) -> Depth | None:
    """Depth and camera of a row: its own columns, else the files of a recorded frame beside its picture
    (NAME_color.png with NAME_depth.png and NAME_camera.json, see robot/frame_cell.py), else None.

    Raises:
        AffordAgentError: files that are broken or do not fit the picture, or a depth without its unit and camera.
    """
    if sample.depth is not None and sample.camera is not None and sample.depth_unit_m is not None:
        return _depth_of_columns(sample.depth, sample.depth_unit_m, sample.camera, image)
    prefix = sample.image.removesuffix(COLOR_ENDING)
    if prefix != sample.image and Path(f"{prefix}_depth.png").is_file() and Path(f"{prefix}_camera.json").is_file():
        frame = FrameCell(prefix).look()
        return Depth(frame.depth_m, frame.camera)
    if sample.depth is not None:
        raise AffordAgentError(
            f"{sample.image} has the depth {sample.depth} but not both of depth_unit_m and camera: fill these columns, "
            "or leave the depth out"
        )
    return None


def _depth_of_columns(path: str, unit_m: float, camera: str, image: Picture) -> Depth:
    counts = cv2.imread(path, cv2.IMREAD_UNCHANGED)
    if counts is None or counts.shape != image.shape[:2] or counts.dtype != np.uint16:
        found = "missing or broken" if counts is None else f"{counts.shape} {counts.dtype}"
        raise AffordAgentError(f"depth {path} is {found}; it must be {image.shape[:2]} uint16, aligned to the picture")
    try:
        intrinsics = CameraIntrinsics(**json.loads(camera))
    except (TypeError, ValueError) as error:
        raise AffordAgentError(f"camera {camera}: {error}; give width, height, fx, fy, cx and cy as JSON") from error
    return Depth((counts * unit_m).astype(np.float32), intrinsics)


def _scene(
    image: Picture, depth_m: NDArray[np.float32] | None, camera: CameraIntrinsics | None
) -> tuple[RgbdFrame, TableScene, str]:
    """What stands there, by depth where it shows a table with things on it, else by colour."""
    if depth_m is not None and camera is not None:
        frame = RgbdFrame(image, depth_m, camera)
        try:
            return frame, find_objects(frame), "depth"
        except StageFailure:  # no table, or nothing on it: the colours may still show things
            pass
    from affordagent.tools.rgb_proposals import scene_of_picture

    return *scene_of_picture(image), "color"


def _reading(query: FunctionalQuery) -> str:
    names = ", ".join(c.name for c in query.candidates[:3]) or query.object_words or query.text
    return f"{names}{f' by its {query.part}' if query.part else ''}"


def _stamp(path: Path) -> str:
    """Size and a hash of both ends of a file: training changes the end of any file of weights."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = sha256(file.read(STAMP_BYTES))
        file.seek(max(0, size - STAMP_BYTES))
        digest.update(file.read(STAMP_BYTES))
    return f"{size} bytes, {digest.hexdigest()[:16]}"
