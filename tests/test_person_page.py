"""Masks by people: the page, its file of answers, two people, merging."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from affordagent.agent.person.agreeing import agreement, disputed_rows, mean_mask, merge
from affordagent.agent.person.answers import AnswerFile, read_answers
from affordagent.agent.person.helping import Helper
from affordagent.agent.person.page import create_app
from affordagent.agent.person.tasks import Task, tasks_of
from affordagent.agent.web.masks import Click
from affordagent.core.errors import AffordAgentError
from affordagent.core.overlap import overlap
from affordagent.core.types import Mask
from affordagent.finetune.data.rle import encode_rle
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import load_mask, read_samples, write_parquet

SIZE = (120, 160)
WAIT_S = 90.0


def disc(x: int, y: int, radius: int) -> Mask:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five rows: two wait for a person, one of them asked in two ways; a tool doubts one; one is sure."""
    picture = np.full((*SIZE, 3), 200, np.uint8)
    picture[disc(60, 60, 30)] = (40, 60, 180)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "b.png"), picture[:, ::-1])
    refused = json.dumps({"refused_rle": encode_rle(disc(60, 60, 10))})
    one = Sample(
        str(tmp_path / "a.png"), "Where to hold it?", category="mug", part="handle", box="[30, 30, 91, 91]",
        status="unlabelled", confidence=0.4, tool_reason="grabcut_box: <b>empty</b>; mini_parts: in pieces",
        checks=refused,
    )  # fmt: skip
    other = replace(one, image=str(tmp_path / "b.png"), confidence=0.1, box="[69, 30, 130, 91]", checks=None, text="")
    doubted = replace(one, category="bowl", part=None, status="labelled", mask_rle=encode_rle(disc(60, 60, 30)),
                      tool="grabcut_box", confidence=0.6)  # fmt: skip
    sure = replace(doubted, category="pan", confidence=0.95)
    rows = [sure, doubted, one, replace(one, text="What holds it?", kind="hard"), other]
    write_parquet(rows, tmp_path / "rows.parquet")
    return tmp_path


@pytest.fixture
def page(folder: Path) -> Iterator[TestClient]:
    kept = AnswerFile(folder, "ann")
    with TestClient(create_app(tasks_of(folder), kept, Helper(), None), base_url="http://127.0.0.1") as client:
        yield client
    kept.close()


def post(page: TestClient, path: str, body: Any = None, status: int = 200) -> Any:
    answer = page.post(f"/api/{path}", json=body or {})
    assert answer.status_code == status, answer.text
    return answer.json()


def counts_of(mask: Mask) -> list[int]:
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


def mask_of(counts: list[int]) -> Mask:
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(SIZE[1], SIZE[0]).T


def test_the_least_certain_comes_first_and_rows_that_share_a_mask_are_one(folder: Path) -> None:
    tasks = tasks_of(folder)
    assert [(t.row.category, t.row.confidence) for t in tasks] == [("mug", 0.1), ("mug", 0.4), ("bowl", 0.6)]
    everything = tasks_of(folder, everything=True)
    assert [t.key for t in everything[:3]] == [t.key for t in tasks]
    assert everything[3].row.category == "pan"
    assert tasks_of(folder, disputed={tasks[2].key})[0].row.category == "bowl"
    moved = folder / "moved"
    moved.mkdir()
    for name in ("a.png", "b.png", "rows.parquet"):
        (folder / name).rename(moved / name)
    assert [t.key for t in tasks_of(moved)] == [t.key for t in tasks]


def test_a_row_begins_with_the_best_refused_mask_and_says_why_the_tools_failed(page: TestClient) -> None:
    listed = post(page, "rows")
    assert listed["by"] == "ann"
    assert len(listed["rows"]) == 3
    row = post(page, "row", {"key": listed["rows"][1]["key"]})
    assert (row["category"], row["part"], row["text"]) == ("mug", "handle", "Where to hold it?")
    assert row["tools"] == ["grabcut_box: <b>empty</b>", "mini_parts: in pieces"]
    assert (mask_of(row["start"]) == disc(60, 60, 10)).all()
    assert not mask_of(post(page, "row", {"key": listed["rows"][0]["key"]})["start"]).any()


def test_clicks_and_boxes_find_what_stands_out(page: TestClient) -> None:
    key = post(page, "rows")["rows"][1]["key"]
    nothing, thing = np.zeros(SIZE, bool), disc(60, 60, 30)
    clicked = post(page, "region", {"key": key, "counts": counts_of(nothing), "x": 60, "y": 60, "add": True})["counts"]
    assert overlap(mask_of(clicked), thing).iou > 0.9
    taken = post(page, "region", {"key": key, "counts": clicked, "x": 60, "y": 60, "add": False})["counts"]
    assert not mask_of(taken)[60, 60]
    box = {"key": key, "counts": counts_of(nothing), "box": [28, 28, 93, 93], "add": True}
    boxed = mask_of(post(page, "box", box)["counts"])
    assert overlap(boxed, thing).iou > 0.9
    assert not mask_of(post(page, "box", {**box, "counts": counts_of(boxed), "add": False})["counts"])[60, 60]


def test_a_click_without_a_box_keeps_to_its_colour_in_a_grained_picture() -> None:
    grain = np.random.default_rng(0).normal(0, 4, (*SIZE, 3))
    picture = np.full((*SIZE, 3), (150, 120, 90)) + grain
    picture[disc(60, 60, 30)] = (190, 20, 30)
    nothing = np.zeros(SIZE, bool)
    found = Helper().clicked(picture.clip(0, 255).astype(np.uint8), nothing, Click(60, 60, True), None)
    assert overlap(found, disc(60, 60, 30)).iou > 0.9
    assert not nothing.any()


def test_answers_are_lines_and_the_last_counts(page: TestClient, folder: Path) -> None:
    first, second, third = (row["key"] for row in post(page, "rows")["rows"])
    post(page, "answer", {"key": first, "said": "cannot say", "seconds": 2})
    post(page, "answer", {"key": second, "said": "mask", "counts": counts_of(disc(50, 50, 20)), "seconds": 8.25})
    post(page, "answer", {"key": first, "said": "absent", "seconds": 1})
    lines = [json.loads(line) for line in (folder / "person-ann.jsonl").read_text().splitlines()]
    assert [line["said"] for line in lines] == ["cannot say", "mask", "absent"]
    assert lines[1]["mask"]["size"] == list(SIZE)
    assert lines[1]["seconds"] == 8.2
    (answers,) = read_answers(folder).values()
    assert {key: answer.said for key, answer in answers.items()} == {first: "absent", second: "mask"}
    shown = post(page, "row", {"key": second})
    assert (mask_of(shown["start"]) == disc(50, 50, 20)).all()
    assert shown["said"] == "mask"
    assert [row["said"] for row in post(page, "rows")["rows"]] == ["absent", "mask", None]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("row", {"key": "../../../etc/passwd"}, 422),
        ("row", {"key": "0" * 24}, 404),
        ("answer", {"said": "mask", "counts": [5], "seconds": 1}, 422),
        ("answer", {"said": "mask", "counts": [19200], "seconds": 1}, 422),
        ("answer", {"said": "mask", "counts": [10**30], "seconds": 1}, 422),
        ("answer", {"said": "perhaps", "seconds": 1}, 422),
        ("answer", {"said": "absent", "seconds": -1}, 422),
        ("region", {"counts": [19200], "x": 160, "y": 0, "add": True}, 422),
        ("box", {"counts": [19200], "box": [5, 5, 6, 5], "add": True}, 422),
        ("box", {"counts": [19200], "box": [0, 0, 9999, 50], "add": True}, 422),
        ("answer", {"said": "mask", "counts": [1] * 3_000_000, "seconds": 1}, 413),
    ],
)
def test_what_is_unfit_is_refused_and_nothing_kept(
    page: TestClient, folder: Path, path: str, body: dict[str, Any], status: int
) -> None:
    key = post(page, "rows")["rows"][0]["key"]
    error = post(page, path, {"key": key, **body}, status)["error"]
    assert error["message"]
    assert (folder / "person-ann.jsonl").read_text() == ""


def test_who_may_ask(folder: Path) -> None:
    kept = AnswerFile(folder, "ann")
    open_app = create_app(tasks_of(folder), kept, Helper(), None)
    assert TestClient(open_app, base_url="http://evil.example").get("/").status_code == 421
    local = TestClient(open_app, base_url="http://127.0.0.1")
    assert "default-src 'none'" in local.get("/").headers["content-security-policy"]
    assert local.post("/api/rows", headers={"Origin": "http://evil.example"}).status_code == 403
    assert local.post("/api/rows", headers={"Origin": "http://127.0.0.1"}).status_code == 200
    told = TestClient(create_app(tasks_of(folder), kept, Helper(), "s" * 20), base_url="http://robot:8772")
    assert told.post("/api/rows").status_code == 401
    assert told.post("/api/rows", headers={"Authorization": "Bearer " + "s" * 20}).status_code == 200
    kept.close()


def test_a_file_has_one_writer_and_a_plain_name(folder: Path) -> None:
    kept = AnswerFile(folder, "ann")
    with pytest.raises(AffordAgentError, match="open in another process"):
        AnswerFile(folder, "ann")
    kept.close()
    for name in ("", "../x", "a/b", "a b", "x" * 41):
        with pytest.raises(AffordAgentError, match="--by"):
            AnswerFile(folder, name)


def say(folder: Path, by: str, said: dict[str, Mask | str]) -> None:
    kept = AnswerFile(folder, by)
    for key, what in said.items():
        if isinstance(what, str):
            kept.add(key, "absent" if what == "absent" else "cannot say", None, 3)
        else:
            kept.add(key, "mask", encode_rle(what), 5)
    kept.close()


def test_two_people_agree_or_a_third_decides(folder: Path) -> None:
    tasks: list[Task] = tasks_of(folder, everything=True)
    alike, apart, absent, unsure = (task.key for task in tasks)
    say(folder, "ann", {alike: disc(60, 60, 30), apart: disc(40, 40, 20), absent: "absent", unsure: "cannot say"})
    say(folder, "bob", {alike: disc(62, 60, 30), apart: disc(90, 80, 20), absent: "absent", unsure: "cannot say"})
    found = agreement(folder)
    assert (found.both, found.masks, found.good) == (4, 2, 0.5)
    assert [pair.agrees for pair in found.pairs] == [False, True, True, True]
    assert found.pairs[0].row == apart
    assert found.alpha == 1.0
    assert disputed_rows(read_answers(folder)) == {apart}
    assert json.loads(json.dumps(found.as_json()))["pairs"][0]["agrees"] is False

    counts = merge(folder, folder / "merged.parquet")
    assert (counts.rows, counts.by_people, counts.disputed, counts.unsaid) == (5, 2, 2, 1)  # one mask is of two rows
    rows = {
        (row.category, Path(row.image).name): row for row in read_samples(folder / "merged.parquet", unlabelled=True)
    }
    first = rows["mug", "b.png"]
    assert (first.tool, first.status) == ("person", "labelled")
    assert first.text
    assert "ann, bob, 2 of 2" in (first.tool_reason or "")
    assert overlap(load_mask(first, SIZE), disc(61, 60, 30)).iou > 0.97
    open_ = rows["mug", "a.png"]
    assert (open_.status, open_.tool, open_.mask_rle) == ("unlabelled", None, None)
    assert "disagree IoU 0.00" in (open_.tool_reason or "")
    gone = rows["bowl", "a.png"]
    assert (gone.status, gone.tool, gone.mask_rle) == ("labelled", "person", None)
    assert rows["pan", "a.png"].status == "unlabelled"

    say(folder, "cem", {apart: disc(91, 80, 20)})
    assert disputed_rows(read_answers(folder)) == set()
    assert merge(folder, folder / "merged.parquet").by_people == 4
    with pytest.raises(AffordAgentError, match="the rows themselves"):
        merge(folder, folder / "rows.parquet")


def test_the_mean_of_masks_is_between_them() -> None:
    assert (mean_mask([disc(50, 50, 20)]) == disc(50, 50, 20)).all()
    between = mean_mask([disc(50, 50, 20), disc(50, 50, 30)])
    assert overlap(between, disc(50, 50, 25)).iou > 0.95


def start_page(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [
        sys.executable,
        "-m",
        "affordagent.agent.cli",
        "data",
        "person",
        str(folder),
        "--by",
        "ann",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    link = re.match(r"(http://127\.0\.0\.1:\d+)/", process.stdout.readline())
    assert link, "the page did not start"
    return process, link[1]


def test_a_kill_loses_no_answer(folder: Path) -> None:
    import httpx

    keys = [task.key for task in tasks_of(folder)]
    for number in range(2):
        process, link = start_page(folder)
        try:
            with httpx.Client(base_url=link, timeout=WAIT_S) as client:
                assert [row["said"] for row in client.post("/api/rows", json={}).json()["rows"]] == [
                    "absent"
                ] * number + [None] * (3 - number)
                client.post(
                    "/api/answer", json={"key": keys[number], "said": "absent", "seconds": 1}
                ).raise_for_status()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT_S)
            assert process.stdout is not None
            process.stdout.close()
    with (folder / "person-ann.jsonl").open("a") as file:
        file.write('{"row": "half a li')  # a kill in the middle of a line
    say(folder, "ann", {keys[2]: "absent"})
    assert list(read_answers(folder)["ann"]) == keys
