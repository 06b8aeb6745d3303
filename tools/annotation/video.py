"""A mask of one frame carried through the others of an episode: by SAM 2's memory, or by optical flow without it.

Ravi et al., "SAM 2" (ICLR 2025); Kroeger et al., "Fast optical flow using dense inverse search" (ECCV 2016), as OpenCV
has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, box_of
from affordagent.tools.annotation.chain import iou
from affordagent.tools.annotation.stand_ins import GrabCut
from affordagent.tools.detection import Picture
from affordagent.tools.local_weights import best_device, explained, half_precision, place_of, pretrained
from affordagent.tools.segmenter import SAM2, Prompt

LEAST_PX = 40  # of a mask that can be followed
GROWN = 0.1  # of the box's sides, around where a mask has moved to
ALIKE = 0.8  # IoU of the new outline with where the flow carried the mask; below, the flow is believed
ROUND_TRIP = 0.7  # IoU with the known mask, carried there and back, from which a frame's mask is believed
LIKENESS = 0.5  # of the colours under the two masks, from which it is
BINS = (8, 8, 8)  # of the colours


class Tracker(Protocol):
    """name: the tool in the rows."""

    name: str

    def follow(self, frames: Sequence[Picture], mask: Mask) -> list[Mask]:
        """(H, W) bool masks of all frames, the first frame's being `mask`; empty from where the thing is lost."""
        ...


@dataclass(frozen=True)
class Tracked:
    """mask: (H, W) bool of one frame. round_trip: IoU with the known mask after the way there and back. likeness in
    [0, 1]: of the colours under it and under the known mask."""

    mask: Mask
    round_trip: float
    likeness: float

    @property
    def believed(self) -> bool:
        """If not, a person has to say, or a tool that looks at the frame alone."""
        return self.round_trip >= ROUND_TRIP and self.likeness >= LIKENESS


def propagate(tracker: Tracker, frames: Sequence[Picture], mask: Mask, at: int) -> list[Tracked]:
    """The mask of frame `at` in every frame, forwards and backwards, each checked by carrying it back to `at`.

    frames: (H, W, 3) uint8 RGB, all of one size. mask: (H, W) bool.

    Raises:
        AffordAgentError: frames of several sizes, no such frame, or a mask that does not fit or cannot be followed.
    """
    _check(frames, mask, at)
    later = tracker.follow(frames[at:], mask)
    earlier = tracker.follow(frames[at::-1], mask)
    masks = [*earlier[:0:-1], *later]
    checked = [_checked(tracker, (frames[i], found), (frames[at], mask)) for i, found in enumerate(masks)]
    return checked[:at] + [Tracked(mask, 1.0, 1.0)] + checked[at + 1 :]


def _checked(tracker: Tracker, found: tuple[Picture, Mask], known: tuple[Picture, Mask]) -> Tracked:
    """Carried straight back to the frame whose mask is known."""
    (frame, mask), (first, truth) = found, known
    if mask.sum() < LEAST_PX:
        return Tracked(mask, 0.0, 0.0)
    back = tracker.follow([frame, first], mask)[-1]
    likeness = cv2.compareHist(_colours(frame, mask), _colours(first, truth), cv2.HISTCMP_INTERSECT)
    return Tracked(mask, iou(back, truth), float(likeness))


def _colours(picture: Picture, mask: Mask) -> Any:
    """The share of each colour under the mask."""
    seen = np.histogramdd(picture[mask].astype(np.float32), BINS, [(0, 256)] * 3)[0].astype(np.float32)
    return seen / seen.sum()


def _check(frames: Sequence[Picture], mask: Mask, at: int) -> None:
    if not 0 <= at < len(frames):
        raise AffordAgentError(f"frame {at} is none of the {len(frames)} frames")
    sizes = {frame.shape[:2] for frame in frames}
    if sizes != {mask.shape}:
        raise AffordAgentError(f"frames of {sorted(sizes)} and a mask of {mask.shape}: all must have one size")
    if mask.sum() < LEAST_PX:
        raise AffordAgentError(f"the mask has {int(mask.sum())} pixels, at least {LEAST_PX} can be followed")


class FlowTracker:
    """The stand-in: dense optical flow moves the mask, GrabCut finds its outline anew."""

    name = "flow_grabcut"

    def __init__(self) -> None:
        self._outliner = GrabCut()

    def follow(self, frames: Sequence[Picture], mask: Mask) -> list[Mask]:
        masks = [mask]
        for before, now in zip(frames, frames[1:], strict=False):
            masks.append(self._next(before, now, masks[-1]))
        return masks

    def _next(self, before: Picture, now: Picture, mask: Mask) -> Mask:
        nothing = np.zeros_like(mask)
        if mask.sum() < LEAST_PX:
            return nothing
        moved = _moved(before, now, mask)
        if moved.sum() < LEAST_PX:
            return nothing
        x0, y0, x1, y1 = box_of(moved)
        dx, dy = GROWN * (x1 - x0), GROWN * (y1 - y0)
        found = self._outliner.segment(now, [Prompt((x0 - dx, y0 - dy, x1 + dx, y1 + dy))])[0][0]
        return found if iou(found, moved) > ALIKE else moved


def _moved(before: Picture, now: Picture, mask: Mask) -> Mask:
    """The mask where the flow carries it: each pixel of `now` looks up where it was."""
    nothing = np.zeros((*mask.shape, 2), np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(_grey(now), _grey(before), nothing)
    rows, columns = np.indices(mask.shape, dtype=np.float32)
    there = cv2.remap(mask.astype(np.float32), columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
    return there > 0.5


def _grey(picture: Picture) -> Any:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


class Sam2Tracker:
    """SAM 2 with its memory. weights: a folder or a hub's name that is in the local cache, in transformers' format.

    Raises:
        AffordAgentError: no such weights here, or weights of something else.
    """

    name = "sam2_video"

    def __init__(self, weights: str = SAM2) -> None:
        self.weights = weights

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoImageProcessor, Sam2VideoModel, Sam2VideoProcessor, Sam2VideoVideoProcessor

        with explained(self.weights, "SAM 2", SAM2):
            model = pretrained(Sam2VideoModel, self.weights).eval().to(best_device())
            still = AutoImageProcessor.from_pretrained(place_of(self.weights), local_files_only=True)
        size = {"height": model.config.image_size, "width": model.config.image_size}
        return model, Sam2VideoProcessor(still, Sam2VideoVideoProcessor(size=size))

    def follow(self, frames: Sequence[Picture], mask: Mask) -> list[Mask]:
        import torch

        model, processor = self._loaded
        device = best_device()
        masks = [mask]
        with torch.inference_mode(), half_precision(device):
            session = processor.init_video_session(video=list(frames), inference_device=device, dtype=model.dtype)
            processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=1, input_masks=mask)
            model(inference_session=session, frame_idx=0)
            for output in model.propagate_in_video_iterator(session, start_frame_idx=0):
                if output.frame_idx:
                    logits = processor.post_process_masks([output.pred_masks.float()], [mask.shape], binarize=False)[0]
                    masks.append(logits[0, 0].cpu().numpy() > 0)
        return masks
