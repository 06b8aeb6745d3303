"""Finished trials as a LeRobotDataset v3.0: what the arm did, what the camera had seen by then, and what came of it.

Source: https://github.com/huggingface/lerobot (src/lerobot/datasets/lerobot_dataset.py, utils.py; codebase v3.0).

    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet, videos/observation.images.camera/chunk-000/file-000.mp4
    meta/trials.jsonl      a line an episode: the run, its outcome and why it failed (not part of LeRobot's format)

A step has the joints (rad) and the opening of the hand (m) as its state, those of the next step as its action, and the
newest picture of the camera: the one before the motion, and at the last step the one after it, when there is one. In
between the camera takes none, and none is made up. States are measured where a motion begins and ends (the journal of
the run), and follow the planned path in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.journal import MOTIONS_FILE, Motion, read_motions
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import GraspPlan, RgbdFrame
from affordagent.finetune.data.schema import Rejected
from affordagent.finetune.data.sources.found import MALFORMED, folders_with, object_of, read_json, reason_of

FPS = 10
CAMERA = "observation.images.camera"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
NAMES = [*(f"{joint}_joint_rad" for joint in JOINTS), "gripper_width_m"]
EPISODES_A_FILE = 500
FRAME = "frame_camera.json"
NUMBERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True)
class Episode:
    """states: (N, 7) float32, rad and m, every 1 / FPS s; before, after: (H, W, 3) uint8 RGB."""

    run: str
    task: str
    outcome: str
    failure: str | None
    states: NDArray[np.float32]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8] | None


@dataclass(frozen=True)
class Exported:
    """How much was written, and the runs that were left out."""

    episodes: int
    frames: int
    rejected: tuple[Rejected, ...]


def export(runs: Path, out: Path, tell: Callable[[int], None] = lambda number: None) -> Exported:
    """Write the runs at or below `runs` that moved an arm to the new folder `out`.

    Raises:
        AffordAgentError: `out` is there, no run has moved, or it cannot be written.
    """
    if out.exists():
        raise AffordAgentError(f"{out} is there already; give a new folder")
    writer = _Writer(out)
    rejected = []
    for folder in folders_with(runs, FRAME):
        name = folder.relative_to(runs).as_posix()
        try:
            episode = episode_of(folder, folder.name if name == "." else name)
            if writer.size not in (None, episode.before.shape[:2]):
                raise AffordAgentError(f"its pictures are {episode.before.shape[:2]}, those before {writer.size}")
        except MALFORMED as error:
            rejected.append(Rejected(name, reason_of(error)))
            continue
        writer.add(episode)
        tell(len(writer.episodes))
    if not writer.episodes:
        raise AffordAgentError(f"no run in {runs} has moved an arm" + (f": {rejected[0].reason}" if rejected else ""))
    writer.close()
    return Exported(len(writer.episodes), writer.frames, tuple(rejected))


def episode_of(run: Path, name: str) -> Episode:
    """The motion of a run.

    Raises:
        AffordAgentError: it is not finished, or the arm did not move.
    """
    result = object_of(read_json(run / "run.json"), "run.json")
    motions = [m for m in read_motions(run / MOTIONS_FILE) if m.result and m.result.get("state")]
    if not motions:
        raise AffordAgentError("no motion of it has ended")
    store = RunStore(run)
    plan: GraspPlan | None = store.get("plan") if store.has("plan") else None
    before: RgbdFrame = store.get("frame")
    after: RgbdFrame | None = store.get("after") if store.has("after") else None
    return Episode(
        name,
        str(result["command"])[:500],
        str(result["outcome"]),
        (result.get("failure") or {}).get("code"),
        _states(motions, plan),
        before.color,
        None if after is None else after.color,
    )


def _states(motions: list[Motion], plan: GraspPlan | None) -> NDArray[np.float32]:
    """(N, 7) every 1 / FPS s, from the start of the first motion to the end of the last."""
    times: list[float] = []
    points: list[NDArray[np.float64]] = []
    for motion in motions:
        start, end = motion.start, object_of((motion.result or {})["state"], "a state")
        begun_s, ended_s = float(start["stamp_s"]), float(end["stamp_s"])
        times += [begun_s, ended_s]
        points += [_state(start), _state(end)]
        path = getattr(plan, motion.step, None) or getattr(plan and plan.delivery, motion.step, None)
        if path is not None and ended_s > begun_s:
            inner = slice(1, -1)
            share = path.times_s[inner] / path.duration_s
            widths = np.interp(share, [0, 1], [points[-2][6], points[-1][6]])
            times += (begun_s + share * (ended_s - begun_s)).tolist()
            points += list(np.column_stack([path.positions[inner], widths]))
    order = np.argsort(times, kind="stable")
    at_s, known = np.array(times)[order], np.array(points)[order]
    if not np.isfinite(known).all() or not np.isfinite(at_s).all() or at_s[-1] - at_s[0] > 3600:
        raise AffordAgentError("its journal holds states that are not finite, or more than an hour")
    steps_s = np.arange(at_s[0], at_s[-1] + 0.5 / FPS, 1 / FPS)
    return np.column_stack([np.interp(steps_s, at_s, column) for column in known.T]).astype(np.float32)


def _state(state: dict[str, Any]) -> NDArray[np.float64]:
    joints = np.array(state["positions"], np.float64)
    if joints.shape != (len(JOINTS),):
        raise AffordAgentError(f"a state of {joints.shape} joints, not {len(JOINTS)}")
    return np.append(joints, float(state["gripper_width_m"]))


class _Writer:
    """The files of a set, several episodes a file."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.size: tuple[int, int] | None = None
        self.tasks: dict[str, int] = {}
        self.episodes: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self.frames = 0
        self._in_file = 0  # frames of the video's present file
        self._table: pq.ParquetWriter | None = None
        self._video: Any = None
        self._all: list[NDArray[np.float32]] = []

    def add(self, episode: Episode) -> None:
        number, count = len(self.episodes), len(episode.states)
        file = number // EPISODES_A_FILE
        if number % EPISODES_A_FILE == 0:
            self._close_files()
        self.size = (episode.before.shape[0], episode.before.shape[1])
        task = self.tasks.setdefault(episode.task, len(self.tasks))
        table = _table(episode, number, self.frames, task)
        if self._table is None:
            self._table = pq.ParquetWriter(self._path("data", file, "parquet"), table.schema)
            self._video = _video(self._path(f"videos/{CAMERA}", file, "mp4"), self.size)
        self._table.write_table(table)
        for picture in _pictures(episode):
            self._video.send(np.ascontiguousarray(picture))
        stats = {"observation.state": _numbers(episode.states), CAMERA: _colours(episode)}
        self.episodes.append(
            {
                "episode_index": number,
                "tasks": [episode.task],
                "length": count,
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": self.frames,
                "dataset_to_index": self.frames + count,
                f"videos/{CAMERA}/chunk_index": 0,
                f"videos/{CAMERA}/file_index": file,
                f"videos/{CAMERA}/from_timestamp": self._in_file / FPS,
                f"videos/{CAMERA}/to_timestamp": (self._in_file + count) / FPS,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **{f"stats/{name}/{key}": value for name, one in stats.items() for key, value in one.items()},
            }
        )
        self.trials.append(
            {"episode_index": number, "run": episode.run, "outcome": episode.outcome, "failure": episode.failure}
        )
        self.frames += count
        self._in_file += count
        self._all.append(episode.states)

    def close(self) -> None:
        import pandas as pd  # LeRobot reads the tasks with it: they are the table's index

        self._close_files()
        meta = self.out / "meta"
        (meta / "episodes/chunk-000").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(self.episodes), meta / "episodes/chunk-000/file-000.parquet")
        tasks = pd.DataFrame({"task_index": list(self.tasks.values())}, index=list(self.tasks))
        tasks.to_parquet(meta / "tasks.parquet")
        states = np.concatenate(self._all)
        stats = {name: _numbers(states) for name in ("observation.state", "action")}
        write_json(meta / "stats.json", stats | {CAMERA: _mean_of([e[f"stats/{CAMERA}/mean"] for e in self.episodes])})
        assert self.size is not None
        write_json(meta / "info.json", _info(len(self.episodes), self.frames, len(self.tasks), self.size))
        lines = [json.dumps(trial) for trial in self.trials]
        (meta / "trials.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _path(self, folder: str, file: int, ending: str) -> Path:
        path = self.out / folder / "chunk-000" / f"file-{file:03d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _close_files(self) -> None:
        if self._table is not None:
            self._table.close()
            self._video.close()
        self._table, self._video, self._in_file = None, None, 0


def _table(episode: Episode, number: int, first: int, task: int) -> pa.Table:
    count = len(episode.states)
    index = np.arange(count)
    vectors = pa.list_(pa.float32(), len(NAMES))
    action = np.concatenate([episode.states[1:], episode.states[-1:]])
    columns = {
        "observation.state": pa.array(list(episode.states), vectors),
        "action": pa.array(list(action), vectors),
        "next.done": pa.array(index == count - 1),
        "next.success": pa.array((index == count - 1) & (episode.outcome == "success")),
        "timestamp": pa.array((index / FPS).astype(np.float32)),
        "frame_index": pa.array(index.astype(np.int64)),
        "episode_index": pa.array(np.full(count, number, np.int64)),
        "index": pa.array((first + index).astype(np.int64)),
        "task_index": pa.array(np.full(count, task, np.int64)),
    }
    return pa.table(columns)


def _pictures(episode: Episode) -> Iterator[NDArray[np.uint8]]:
    count = len(episode.states)
    last = episode.before if episode.after is None else episode.after
    yield from (episode.before for _ in range(count - 1))
    yield last


def _video(path: Path, size: tuple[int, int]) -> Any:
    """A writer of H.264 that frames are sent to."""
    writer = imageio_ffmpeg.write_frames(
        str(path), size[::-1], fps=FPS, codec="libx264", pix_fmt_out="yuv420p", quality=7, macro_block_size=2,
        output_params=["-g", "2"],  # as LeRobot's own: any frame is found quickly
    )  # fmt: skip
    writer.send(None)
    return writer


def _info(episodes: int, frames: int, tasks: int, size: tuple[int, int]) -> dict[str, Any]:
    vector = {"dtype": "float32", "shape": [len(NAMES)], "names": NAMES}
    video = {
        "video.height": size[0],
        "video.width": size[1],
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": FPS,
        "video.channels": 3,
        "has_audio": False,
    }
    features: dict[str, Any] = {
        "observation.state": vector,
        "action": vector,
        CAMERA: {"dtype": "video", "shape": [*size, 3], "names": ["height", "width", "channels"], "info": video},
    }
    features |= {name: {"dtype": "bool", "shape": [1], "names": None} for name in ("next.done", "next.success")}
    features |= {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in NUMBERS.items()}
    return {
        "codebase_version": "v3.0",
        "robot_type": "ur5e",
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 500,
        "fps": FPS,
        "splits": {"train": f"0:{episodes}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }


def _numbers(values: NDArray[np.float32]) -> dict[str, list[Any]]:
    """LeRobot's statistics of (N, 7)."""
    kinds = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    return {name: value.tolist() for name, value in kinds.items()} | {"count": [len(values)]}


def _colours(episode: Episode) -> dict[str, list[Any]]:
    """The same of the pictures, (3, 1, 1) with values from 0 to 1."""
    shares = episode.before.reshape(-1, 3) / 255
    kinds = {"min": shares.min(0), "max": shares.max(0), "mean": shares.mean(0), "std": shares.std(0)}
    return {n: value.reshape(3, 1, 1).tolist() for n, value in kinds.items()} | {"count": [len(episode.states)]}


def _mean_of(means: list[Any]) -> dict[str, list[Any]]:
    each = np.array(means)
    kinds = {"min": each.min(0), "max": each.max(0), "mean": each.mean(0), "std": each.std(0)}
    return {name: value.tolist() for name, value in kinds.items()} | {"count": [len(each)]}
