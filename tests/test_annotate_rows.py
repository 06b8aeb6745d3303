"""Rows in, rows with masks out: nothing lost, doubled or half-written, whatever happens to the process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import pytest
from test_mask_annotation import BOX, HEIGHT, WIDTH, a_picture, disc

from affordagent.agent.annotating import annotate_file, prepare
from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import iter_samples, load_mask, write_parquet
from affordagent.tools.annotation.chain import Weights, iou

NO_WEIGHTS = Weights()
BOXES = json.dumps(BOX)


def picture_in(folder: Path, name: str, dx: int = 0, dy: int = 0) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), a_picture(dx, dy)[..., ::-1])
    return str(folder / name)


def masked_rows(folder: Path, count: int) -> Path:
    """Rows with masks of their own: no model is needed for them."""
    image, rle = picture_in(folder, "a.png"), encode_rle(disc())
    rows = (
        Sample(image, f"text {i}", mask_rle=rle, category="plate", box=BOXES, source_id=f"own/{i}", group=f"g{i}")
        for i in range(count)
    )
    write_parquet(rows, folder / "rows.parquet")
    return folder / "rows.parquet"


def ids(file: Path) -> list[str | None]:
    return [row.source_id for row in iter_samples(file)]


def test_every_row_is_answered_once_with_its_tool_and_why(tmp_path: Path) -> None:
    image = picture_in(tmp_path, "a.png")
    bad = str(tmp_path / "broken.png")
    Path(bad).write_bytes(b"no picture")
    open_ = {"status": "unlabelled", "category": "plate"}
    rows = [
        Sample(image, "its own mask", mask_rle=encode_rle(disc()), category="plate", box=BOXES, source_id="0"),
        Sample(image, "from the box", box=BOXES, source_id="1", **open_),
        Sample(image, "the same again", kind="hard", box=BOXES, source_id="2", **open_),
        Sample(image, "another part", part="spout", box=BOXES, source_id="3", **open_),
        Sample(image, "not there", category="hammer", source_id="4"),
        Sample(image, "what is this?", kind="vqa", answer="a plate", source_id="5"),
        Sample(image, "of what?", status="unlabelled", source_id="6"),
        Sample(image, "outside", box="[900, 0, 950, 20]", source_id="7", **open_),
        Sample(bad, "broken", box=BOXES, source_id="8", **open_),
    ]
    write_parquet(rows, tmp_path / "rows.parquet")
    seen: list[tuple[int, int]] = []
    counts = annotate_file(
        tmp_path / "rows.parquet", tmp_path / "out", NO_WEIGHTS, shard_rows=4, on_shard=lambda *of: seen.append(of)
    )
    found = {row.source_id: row for row in iter_samples(tmp_path / "out" / "rows.parquet")}
    assert list(found) == ["0", "1", "2", "3", "4", "5"]
    assert found["0"].tool == "original"
    for name in ("1", "2"):
        assert found[name].tool == "grabcut_box"
        assert iou(load_mask(found[name], (HEIGHT, WIDTH, 3)), disc()) > 0.95
        assert "the source has no mask" in (found[name].tool_reason or "")
        assert json.loads(found[name].checks or "")["stability"] > 0.9
    assert found["3"].status == "unlabelled"
    assert "it was not taught the spout of a plate" in (found["3"].tool_reason or "")
    assert (found["4"], found["5"]) == tuple(r for r in iter_samples(tmp_path / "rows.parquet") if r.source_id in "45")
    rejected = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [one["source_id"] for one in rejected] == ["6", "7", "8"]
    assert ["category" in rejected[0]["reason"], "900" in rejected[1]["reason"], "broken.png" in rejected[2]["reason"]]
    assert (counts.rows, counts.labelled, counts.to_a_person, counts.rejected) == (9, 5, 1, 3)
    assert counts.by_tool == {"grabcut_box": 2, "not asked": 2, "original": 1}
    assert seen[-1] == (9, 9)


def test_a_mask_is_carried_to_the_frames_of_an_episode_that_have_none(tmp_path: Path) -> None:
    rows = []
    for frame in range(3):
        image = picture_in(tmp_path, f"{frame}.png", 4 * frame, 2 * frame)
        known = {"mask_rle": encode_rle(disc())} if frame == 0 else {"status": "unlabelled"}
        provenance = json.dumps({"frame": frame})
        rows.append(Sample(image, "t", category="plate", part="rim", group="e", provenance=provenance, **known))
    write_parquet(rows, tmp_path / "rows.parquet")
    annotate_file(tmp_path / "rows.parquet", tmp_path / "out", NO_WEIGHTS)
    found = list(iter_samples(tmp_path / "out" / "rows.parquet"))
    assert [row.tool for row in found] == ["original", "flow_grabcut", "flow_grabcut"]
    for frame, row in enumerate(found):
        assert iou(load_mask(row, (HEIGHT, WIDTH, 3)), disc(4 * frame, 2 * frame)) > 0.9
    assert "carried from" in (found[2].tool_reason or "")


def test_an_episode_is_never_cut(tmp_path: Path) -> None:
    image = picture_in(tmp_path, "a.png")
    rows = [Sample(image, "t", category="plate", group=f"e{i // 7}", source_id=str(i)) for i in range(50)]
    write_parquet(rows, tmp_path / "rows.parquet")
    shards = prepare(tmp_path / "rows.parquet", tmp_path / "out", NO_WEIGHTS, 10)
    groups = [{row.group for row in iter_samples(shard.todo)} for shard in shards]
    assert sum(len(of) for of in groups) == len(set().union(*groups))
    assert [row.source_id for shard in shards for row in iter_samples(shard.todo)] == [str(i) for i in range(50)]


def test_a_folder_with_other_work_is_refused(tmp_path: Path) -> None:
    rows = masked_rows(tmp_path, 5)
    annotate_file(rows, tmp_path / "out", NO_WEIGHTS)
    again = annotate_file(rows, tmp_path / "out", NO_WEIGHTS)
    assert again.rows == 5
    with pytest.raises(AffordAgentError, match="shard_rows 200, not 2"):
        annotate_file(rows, tmp_path / "out", NO_WEIGHTS, shard_rows=2)
    masked_rows(tmp_path, 6)
    with pytest.raises(AffordAgentError, match="input_sha256"):
        annotate_file(rows, tmp_path / "out", NO_WEIGHTS)


def test_weights_that_are_not_there_stop_the_work_and_reject_nothing(tmp_path: Path) -> None:
    write_parquet(
        [Sample(picture_in(tmp_path, "a.png"), "", category="plate", status="unlabelled", box=BOXES)],
        tmp_path / "r.parquet",
    )
    with pytest.raises(AffordAgentError, match="sam2"):
        annotate_file(tmp_path / "r.parquet", tmp_path / "out", Weights(sam2=str(tmp_path / "sam2-weights")))
    assert not list((tmp_path / "out").glob("done/*"))


def killed_and_gone_on(rows: Path, out: Path, kills: int, *more: str) -> None:
    """Start the command, kill it with all its children as soon as it has got further, again and again."""
    command = [
        sys.executable,
        "-m",
        "affordagent.agent.cli",
        "data",
        "annotate",
        str(rows),
        "--out",
        str(out),
        *more,
    ]
    for _ in range(kills):
        before = len(list(out.glob("done/*.json")))
        with subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 300
            while len(list(out.glob("done/*.json"))) == before and process.poll() is None:
                assert time.monotonic() < deadline, "no shard was answered in 300 s"
                time.sleep(0.01)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert subprocess.run(command, stderr=subprocess.PIPE, timeout=600, check=False).returncode == 0


def nothing_is_lost_or_doubled(out: Path, count: int) -> None:
    assert ids(out / "rows.parquet") == [f"own/{i}" for i in range(count)]
    assert Counter(row.tool for row in iter_samples(out / "rows.parquet")) == {"original": count}
    assert not list(out.rglob("*.part"))


def test_kills_lose_nothing(tmp_path: Path) -> None:
    rows = masked_rows(tmp_path, 240)
    killed_and_gone_on(rows, tmp_path / "out", 2, "--shard-rows", "10")
    nothing_is_lost_or_doubled(tmp_path / "out", 240)


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--workers", "2"), ("--workers", "2", "--ray", "local")])
def test_ten_kills_of_five_thousand_rows_lose_nothing(tmp_path: Path, options: tuple[str, ...]) -> None:
    if "--ray" in options:
        pytest.importorskip("ray", reason='Ray is not installed: pip install "affordagent[ray]"')
    rows = masked_rows(tmp_path, 5000)
    killed_and_gone_on(rows, tmp_path / "out", 10, "--shard-rows", "100", *options)
    nothing_is_lost_or_doubled(tmp_path / "out", 5000)
