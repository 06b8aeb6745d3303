"""Open X-Embodiment as RLDS: a TFRecord file holds episodes, each with all its steps.

Source: https://github.com/google-deepmind/open_x_embodiment, https://github.com/google-research/rlds and
https://www.tensorflow.org/datasets/external_tfrecord; every set has a licence of its own (most CC BY 4.0).

    <set>/<version>/<set>-<split>.tfrecord-00000-of-00100, features.json

A feature of all steps is one list: `steps/observation/image` has the encoded picture of each step, and
`steps/observation/natural_language_instruction` or `steps/language_instruction` the command. Which features are
pictures is read from features.json, or else from the bytes. Wrist cameras and depth are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.found import (
    MALFORMED,
    Found,
    Take,
    attempt,
    inside,
    object_of,
    provenance,
    read_json,
    reason_of,
    safe_name,
    split_named,
    spread,
    text_of,
    write_picture,
)
from affordagent.finetune.data.sources.tfrecord import Feature, example_of, records

URL = "https://robotics-transformer-x.github.io"
KINDS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
NOT_LOOKED_AT = ("wrist", "hand", "gripper", "depth")
INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "language_instruction_2", "instruction")
MAX_PICTURE_BYTES = 50_000_000


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each of `take.frames_n` steps of each episode, its picture written to `take.made`.

    Raises:
        AffordAgentError: there is no .tfrecord file.
    """
    files = sorted(folder.glob("**/*.tfrecord*"))
    if not files:
        raise AffordAgentError(f"{folder} holds no *.tfrecord-00000-of-00000; give the folder of a set's version")
    for file in files:
        place = file.relative_to(folder)
        try:
            inside(folder, place)
            pictures = _described(file.parent)
        except MALFORMED as error:
            yield Rejected(str(place), reason_of(error))
            continue
        episode = 0
        try:
            for episode, record in enumerate(records(file)):
                yield from _episode(place, episode, record, pictures, take)
        except AffordAgentError as error:
            yield Rejected(f"{place}, after episode {episode}", reason_of(error))


def _episode(place: Path, number: int, record: bytes, described: list[str], take: Take) -> Iterator[Found]:
    where = f"{place}/{number}"
    try:
        features = example_of(record)
        camera = _camera(features, described)
        steps = features[camera]
        text = _instruction(features)
    except MALFORMED as error:
        yield Rejected(where, reason_of(error))
        return
    for step in spread(len(steps), take.frames_n):
        source_id = f"{where}/{step}"
        yield attempt(source_id, _row, place, number, camera, step, steps[step], text, source_id, take)


def _row(
    place: Path, episode: int, camera: str, step: int, picture: Any, text: str, source_id: str, take: Take
) -> Sample:
    kind = picture_kind(picture, f"step {step} of '{camera}'")
    file = take.made / safe_name(place.name) / f"{episode:06d}_{step:05d}.{kind}"
    write_picture(file, picture)
    return Sample(
        image=str(file),
        text=text,
        kind="easy",
        source="openx",
        split=split_named(place.name.partition(".tfrecord")[0].rpartition("-")[2]),
        source_id=source_id,
        group=f"openx/{place}/{episode}",
        licence=take.licence,
        provenance=provenance(
            url=URL, file=place.as_posix(), episode=episode, frame=step, camera=camera.rpartition("/")[2]
        ),
        status="unlabelled",
    )


def picture_kind(picture: Any, what: str) -> str:
    """The ending of an encoded picture's file.

    Raises:
        AffordAgentError: no JPEG or PNG, or too large.
    """
    for start, kind in KINDS.items():
        if isinstance(picture, bytes) and picture.startswith(start) and len(picture) <= MAX_PICTURE_BYTES:
            return kind
    raise AffordAgentError(f"{what} is no JPEG or PNG of at most {MAX_PICTURE_BYTES} bytes")


def _camera(features: dict[str, Feature], described: list[str]) -> str:
    """The feature with the pictures of the camera that looks on."""
    seen = described or [name for name, values in features.items() if _pictures(values)]
    chosen = [n for n in seen if n in features and not any(word in n.lower() for word in NOT_LOOKED_AT)]
    if not chosen:
        raise AffordAgentError(f"none of its features is a camera that looks on: {', '.join(sorted(features))[:200]}")
    return min(chosen, key=lambda n: (not n.endswith("/image"), n))


def _pictures(values: Feature) -> bool:
    first = values[0] if values else None
    return isinstance(first, bytes) and first.startswith(tuple(KINDS))


def _instruction(features: dict[str, Feature]) -> str:
    for name in INSTRUCTIONS:
        for feature, values in sorted(features.items()):
            if feature.rpartition("/")[2] == name and values and isinstance(values[0], bytes):
                return text_of(values[0])
    return ""


def _described(folder: Path) -> list[str]:
    """Names of the pictures' features after features.json; [] without that file."""
    if not (folder / "features.json").exists():
        return []
    found: list[str] = []

    def walk(node: Any, path: str) -> None:
        node = object_of(node, "a feature")
        if str(node.get("pythonClassName", "")).endswith("image_feature.Image"):
            found.append(path)
        for name, below in (node.get("featuresDict", {}).get("features") or {}).items():
            walk(below, f"{path}/{name}" if path else name)
        if "sequence" in node:
            walk(node["sequence"]["feature"], path)

    try:
        walk(read_json(inside(folder, "features.json"), 1 << 24), "")
    except (LookupError, AttributeError, RecursionError) as error:
        raise AffordAgentError(f"features.json is not what TFDS writes: {error!r}") from error
    return found
