"""LeRobot's data sets, versions 2.0, 2.1 and 3.0: Parquet tables of steps and MP4 videos of cameras.

Source: https://github.com/huggingface/lerobot (src/lerobot/datasets), https://huggingface.co/blog/lerobot-datasets-v3.

    meta/info.json        codebase_version, fps, features, data_path, video_path
    v2: meta/episodes.jsonl
        data/chunk-000/episode_000000.parquet, videos/chunk-000/<camera>/episode_000000.mp4
    v3: meta/episodes/chunk-000/file-000.parquet, many episodes a file:
        data/chunk-000/file-000.parquet, videos/<camera>/chunk-000/file-000.mp4

The licence is read from the front matter of README.md. Wrist cameras and depth are left out.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
    spread,
    text_of,
    write_picture,
)
from affordagent.finetune.data.sources.openx import NOT_LOOKED_AT, picture_kind
from affordagent.finetune.data.sources.video import frame_png

URL = "https://huggingface.co/docs/lerobot"
MAX_META_BYTES = 1 << 28
MAX_EPISODES = 1_000_000  # a file
_PARQUET = (pa.ArrowException, OSError)


@dataclass(frozen=True)
class Set:
    """What meta/info.json says. camera: the feature that is read; is_video: an MP4, or pictures in the table."""

    root: Path
    info: dict[str, Any]
    fps: float
    camera: str
    is_video: bool
    licence: str | None

    @property
    def version(self) -> str:
        return text_of(self.info.get("codebase_version", ""))


@dataclass(frozen=True)
class Episode:
    """start_s: where it begins in the video's file; first_row: where in the table's; index: for the paths."""

    number: int
    length: int
    text: str
    start_s: float
    first_row: int
    video: dict[str, int]
    table: dict[str, int]


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each of `take.frames_n` steps of each episode, its picture written to `take.made`.

    Raises:
        AffordAgentError: no LeRobot set, or none of its cameras looks on.
    """
    try:
        given = _set(folder, take)
    except MALFORMED as error:
        raise AffordAgentError(f"{folder} is no LeRobot set that can be read: {reason_of(error)}") from error
    for episode in _episodes_v3(given) if given.version.startswith("v3") else _episodes_v2(given):
        if isinstance(episode, Rejected):
            yield episode
            continue
        for step in spread(episode.length, take.frames_n):
            source_id = f"{folder.absolute().name}/{episode.number}/{step}"
            yield attempt(source_id, _row, given, episode, step, source_id, take)


def _row(given: Set, episode: Episode, step: int, source_id: str, take: Take) -> Sample:
    if given.is_video:
        file = inside(given.root, _path(given.info["video_path"], {**episode.video, "video_key": given.camera}))
        # half a step early: the frame's own time may be rounded
        picture, kind = frame_png(file, max(0.0, episode.start_s + (step - 0.5) / given.fps)), "png"
    else:
        picture, kind = _from_table(given, episode, step)
    name = given.root.absolute().name
    made = take.made / safe_name(name) / f"{episode.number:06d}_{step:05d}.{kind}"
    write_picture(made, picture)
    return Sample(
        image=str(made),
        text=episode.text,
        kind="easy",
        source="lerobot",
        split="train",
        source_id=source_id,
        group=f"lerobot/{name}/{episode.number}",
        licence=given.licence or take.licence,
        provenance=provenance(
            url=URL, set=name, version=given.version, episode=episode.number, frame=step, camera=given.camera
        ),
        status="unlabelled",
    )


def _set(folder: Path, take: Take) -> Set:
    info = object_of(read_json(inside(folder, "meta/info.json"), MAX_META_BYTES), "meta/info.json")
    fps = float(info["fps"])
    if not 0 < fps < 10_000:
        raise AffordAgentError(f"fps {fps} is no number of pictures a second")
    features = object_of(info["features"], "features")
    kinds = {name: object_of(one, name).get("dtype") for name, one in features.items()}
    cameras = [n for n, kind in kinds.items() if kind in ("video", "image")]
    chosen = [n for n in cameras if not any(word in n.lower() for word in NOT_LOOKED_AT)]
    if not chosen:
        raise AffordAgentError(f"none of its cameras looks on: {', '.join(cameras) or 'there is none'}")
    return Set(folder, info, fps, chosen[0], kinds[chosen[0]] == "video", _licence(folder))


def _episodes_v2(given: Set) -> Iterator[Episode | Rejected]:
    for i, one in enumerate(_lines(given.root, "meta/episodes.jsonl")):
        try:
            number = int(one["episode_index"])
            tasks = one.get("tasks") or [""]
            place = {"episode_chunk": number // int(given.info.get("chunks_size", 1000)), "episode_index": number}
            yield Episode(number, _length(one["length"]), text_of(tasks[0]), 0.0, 0, place, place)
        except MALFORMED as error:
            yield Rejected(f"meta/episodes.jsonl, line {i + 1}", reason_of(error))


def _episodes_v3(given: Set) -> Iterator[Episode | Rejected]:
    files = sorted((given.root / "meta/episodes").glob("*/*.parquet"))
    if not files:
        raise AffordAgentError("there is no meta/episodes/chunk-000/file-000.parquet")
    starts: dict[tuple[int, int], int] = {}  # of a file of the table, among all steps
    key = f"videos/{given.camera}"
    for file in files:
        place = file.relative_to(given.root)
        try:
            with pq.ParquetFile(inside(given.root, place)) as table:
                if table.metadata.num_rows > MAX_EPISODES:
                    raise AffordAgentError(f"has {table.metadata.num_rows} rows, the limit is {MAX_EPISODES}")
                names = [n for n in table.schema_arrow.names if not n.startswith("stats/")]
                listed = [one for batch in table.iter_batches(columns=names) for one in batch.to_pylist()]
        except (*_PARQUET, *MALFORMED) as error:
            yield Rejected(str(place), reason_of(error))
            continue
        for i, one in enumerate(listed):
            try:
                data = (int(one["data/chunk_index"]), int(one["data/file_index"]))
                first = int(one["dataset_from_index"])
                start = starts.setdefault(data, first)
                video, start_s = {}, 0.0
                if given.is_video:
                    video = {n: int(one[f"{key}/{n}"]) for n in ("chunk_index", "file_index")}
                    start_s = float(one[f"{key}/from_timestamp"])
                tasks = one.get("tasks") or [""]
                yield Episode(
                    int(one["episode_index"]),
                    _length(one["length"]),
                    text_of(tasks[0]),
                    start_s,
                    first - start,
                    video,
                    dict(zip(("chunk_index", "file_index"), data, strict=True)),
                )
            except MALFORMED as error:
                yield Rejected(f"{place}, row {i + 1}", reason_of(error))


def _from_table(given: Set, episode: Episode, step: int) -> tuple[bytes, str]:
    """The encoded picture of a step, and its kind."""
    file = inside(given.root, _path(given.info["data_path"], episode.table))
    wanted = episode.first_row + step
    try:
        with pq.ParquetFile(file) as table:
            for group in range(table.num_row_groups):
                size = table.metadata.row_group(group).num_rows
                if wanted < size:
                    cells = table.read_row_group(group, columns=[given.camera])[given.camera]
                    picture = cells.slice(wanted, 1).to_pylist()[0]["bytes"]
                    break
                wanted -= size
            else:
                raise AffordAgentError(f"{file.name} has no row {episode.first_row + step}")
    except pa.ArrowException as error:
        raise AffordAgentError(f"{file.name} is no Parquet file that can be read: {error}") from error
    return picture, picture_kind(picture, f"step {step} of '{given.camera}'")


def _path(template: Any, values: dict[str, Any]) -> str:
    """`template` with its {names} filled in: names and widths alone, nothing that reaches into the values."""
    out = ""
    for literal, name, form, _ in string.Formatter().parse(text_of(template)):
        out += literal
        if name is not None:
            if name not in values or not re.fullmatch(r"(0?\d{1,2}d)?", form or ""):
                raise AffordAgentError(f"the path {str(template)[:120]!r} asks for {{{name[:40]}}}, which is not known")
            out += format(values[name], form or "")
    return out


def _length(value: Any) -> int:
    length = int(value)
    if not 0 < length < 10_000_000:
        raise AffordAgentError(f"an episode of {length} steps")
    return length


def _lines(root: Path, name: str) -> list[dict[str, Any]]:
    file = inside(root, name)
    if file.stat().st_size > MAX_META_BYTES:
        raise AffordAgentError(f"{name} has {file.stat().st_size} bytes, the limit is {MAX_META_BYTES}")
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return [object_of(json.loads(line), f"a line of {name}") for line in lines if line.strip()]
    except (ValueError, RecursionError) as error:
        raise AffordAgentError(f"{name} is not one JSON object a line: {error}") from error


def _licence(root: Path) -> str | None:
    """`license:` of README.md's front matter."""
    try:
        text = inside(root, "README.md").read_text(encoding="utf-8", errors="replace")[:20_000]
    except AffordAgentError:
        return None
    front = text.split("---")[1] if text.startswith("---") else ""
    found = re.search(r"^license:\s*([\w.+-]{1,60})\s*$", front, re.MULTILINE)
    return found[1] if found else None
