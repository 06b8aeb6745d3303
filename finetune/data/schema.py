"""One row of affordance data, whatever it comes from: the columns of the Parquet files for training and evaluation.

Only `image` and `text` are always there; a CSV of a person's own with `image,mask,text` is a valid set. The columns
after `camera` are of use to whoever builds a set: where a row and its label come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "template",  # asks for the affordance of a named thing: [AFF]
    "easy",  # a purpose, with the name: [AFF]
    "hard",  # a purpose alone: [AFF]
    "semantic",  # a named class or thing: [SEG]
    "referring",  # a described thing: [SEG]
    "reasoning",  # a thing to be inferred: [SEG]
    "vqa",  # no mask
]
KINDS: tuple[Kind, ...] = get_args(Kind)
AFFORDANCE: tuple[Kind, ...] = ("template", "easy", "hard")

Status = Literal[
    "labelled",  # the mask is known; a row without one asks for what is not there
    "unlabelled",  # nobody has made the mask yet: a row for the annotation, never for training
]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Sample:
    """image, mask, depth: paths relative to the set's folder.

    mask: a label picture; foreground is `mask_label`, or everything above 0 when that is None; 255 is ignored only in
    "semantic" rows. mask_rle: COCO run-length encoding {"size": [H, W], "counts": str} as JSON, instead of a file. Both
    None: nothing is to be segmented (a question, or a thing that is not there).
    text: what is said to the model, without any prefix of the conversation. answer: the reference answer without the
    mask's token, None where the reference draws one from its templates.
    category: the thing's class. source: the data set ("handal", "openx", "rendered", ...). split: "train", "val" or
    "test".
    rounds: of "vqa" alone, what follows in the same conversation: JSON list of [question, answer].
    depth: 16-bit picture of the same size, `depth_unit_m` metres a unit, 0 = none. camera: JSON of CameraIntrinsics.

    Where the row comes from. source_id: names it within its source, and stays the same at the next import. group: rows
    that share it (an episode, a scene, a run) go to the same split. licence: of the picture. provenance: JSON object
    of texts and numbers: "url", "version", "episode", "frame", "camera", ... sha256, phash: of the upright pixels, hex;
    see `duplicates`.

    What is known of the thing. part: the part to hold, None = anywhere around its body. box: JSON [x0, y0, x1, y1] of
    the thing, pixels of the upright picture, x1, y1 past the end. object_mask, object_label, object_rle: the mask of
    the whole thing, stored like the three of `mask`; `mask` is the part.

    Where the label comes from. status: see Status; an unlabelled row has neither mask nor mask_rle, and its text may
    be empty. tool: what made the mask: "original", "sam2_box", "florence2_sam2", "part_detector_sam2", "person", or
    the name of another tool. tool_reason: why it and not a better one. confidence in [0, 1]: the tool's; of an
    unlabelled row, that of the answer that did not become its label. checks: JSON object of what the quality checks
    measured, among it "agreement", the overlap (IoU) of two tools' masks. failure: of a hard example from a trial: the
    code of what went wrong.
    """

    image: str
    text: str
    mask: str | None = None
    mask_label: int | None = None
    mask_rle: str | None = None
    answer: str | None = None
    category: str | None = None
    kind: Kind = "template"
    source: str = "own"
    split: str = "test"
    rounds: str | None = None
    depth: str | None = None
    depth_unit_m: float | None = None
    camera: str | None = None
    source_id: str | None = None
    group: str | None = None
    licence: str | None = None
    provenance: str | None = None
    sha256: str | None = None
    phash: str | None = None
    part: str | None = None
    box: str | None = None
    object_mask: str | None = None
    object_label: int | None = None
    object_rle: str | None = None
    status: Status = "labelled"
    tool: str | None = None
    tool_reason: str | None = None
    confidence: float | None = None
    checks: str | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Rejected:
    """What an import could make no row of. source_id: as in Sample, or the file and place; reason: in words."""

    source_id: str
    reason: str
