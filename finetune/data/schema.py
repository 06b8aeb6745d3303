"""One row of affordance data, whatever it comes from: the columns of the Parquet files for training and evaluation.

Only `image` and `text` are always there; a CSV of a person's own with `image,mask,text` is a valid set.
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
