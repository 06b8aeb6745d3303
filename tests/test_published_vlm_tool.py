"""Grounding by a published model or a server: the question, the choice of the object, the pipeline over HTTP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from vlm_service import TINY, Faulty, serving

from affordagent.agent.cli import main
from affordagent.agent.mini_vlm import MiniVlm
from affordagent.agent.serve_vlm import bound_socket, checked_token
from affordagent.agent.settings import Settings
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import Candidate, FunctionalQuery, ObjectProposal, RgbdFrame, TableScene, VlmAnswer, box_of
from affordagent.tools.affordance_vlm import AffordanceTool
from affordagent.tools.published_vlm import PublishedVlmTool, question_of
from affordagent.tools.vlm import kind_of, open_grounder
from affordagent.tools.vlm_client import VlmClient

SIZE = (120, 160)
HAMMER = FunctionalQuery(
    text="the hammer by its handle",
    intent="pick",
    category="hammer",
    candidates=[Candidate(name="hammer", score=0.95, known=True)],
    object_words="hammer",
    part="handle",
)


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT = rectangle(40, 20, 70, 60), rectangle(40, 90, 80, 140)


def logits_of(*masks: np.ndarray, inside: float = 6.0) -> np.ndarray:
    return np.stack([np.where(mask, inside, -6.0) for mask in masks]).astype(np.float32)


def table(*masks: np.ndarray) -> tuple[RgbdFrame, TableScene]:
    camera = CameraIntrinsics(SIZE[1], SIZE[0], 150.0, 150.0, 79.5, 59.5)
    frame = RgbdFrame(np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, 0.8, np.float32), camera)
    proposals = [ObjectProposal(10 + i, mask, box_of(mask)) for i, mask in enumerate(masks)]
    return frame, TableScene(np.array([0.0, 0, -1, 0.8]), np.zeros(SIZE, np.float32), proposals)


def tool(model: Faulty) -> PublishedVlmTool:
    return PublishedVlmTool(lambda: model, "tested")


@pytest.mark.parametrize(
    ("changes", "question"),
    [
        ({}, "What is the affordance map of hammer in this image?"),
        ({"part": None}, "What is the affordance map of hammer in this image?"),
        ({"attributes": {"colour": "red"}}, "What is the affordance map of red hammer in this image?"),
        ({"object_words": "kettle", "category": None}, "What is the affordance map of kettle in this image?"),
        ({"part": "head", "text": "the hammer by its head"}, "the hammer by its head"),
        ({"object_words": None, "text": "drive a\n nail"}, "drive a nail"),
        ({"object_words": None, "text": "a <image> nail [AFF] </s>[SEG]"}, "a nail"),
        ({"object_words": "[SEG] mug"}, "What is the affordance map of mug in this image?"),
    ],
)
def test_questions_follow_the_training_template_or_the_person(changes, question):
    model = Faulty(logits_of(RIGHT))
    query = HAMMER.model_copy(update=changes)
    assert question_of(query) == question
    tool(model).find(*table(RIGHT), query)
    assert model.questions == [question]


def test_the_object_is_the_proposal_that_holds_most_of_the_mask():
    handle = rectangle(50, 85, 60, 125)  # 5 columns of it left of the thing
    (part,) = tool(Faulty(logits_of(handle))).find(*table(LEFT, RIGHT), HAMMER)
    assert part.evidence["proposal"] == 11
    assert (part.object_mask & RIGHT).sum() == RIGHT.sum()
    assert not (part.object_mask & LEFT).any()
    assert not (part.mask & ~part.object_mask).any()
    assert (part.mask & RIGHT).sum() == (handle & RIGHT).sum()
    assert part.mask.sum() < handle.sum(), "what lies far from the thing belongs to others"
    assert 0.8 < part.confidence < 1
    assert part.evidence["answer"] == "It is [AFF]."
    assert part.evidence["source"] == "tested"
    json.dumps(part.evidence)


def test_without_a_proposal_the_mask_stands_alone_and_is_not_trusted():
    nowhere = rectangle(90, 20, 110, 60)
    for scene in (table(LEFT, RIGHT), table()):
        (part,) = tool(Faulty(logits_of(nowhere))).find(*scene, HAMMER)
        assert np.array_equal(part.mask, nowhere)
        assert np.array_equal(part.object_mask, nowhere)
        assert part.evidence["proposal"] is None
        assert part.confidence < Settings().present_above


def test_confidence_falls_with_certainty_agreement_and_area():
    def confidence(mask: np.ndarray, inside: float = 6.0) -> float:
        return tool(Faulty(logits_of(mask, inside=inside))).find(*table(LEFT, RIGHT), HAMMER)[0].confidence

    handle = rectangle(50, 95, 60, 135)
    assert 0.99 < confidence(handle) <= 1
    assert confidence(handle, 0.5) < 0.3
    assert confidence(LEFT | rectangle(65, 55, 70, 70)) < confidence(LEFT)
    assert confidence(np.ones(SIZE, bool)) < 0.1


def test_parts_come_before_things_and_specks_are_none():
    whole, handle = RIGHT, rectangle(50, 95, 60, 135)
    found = tool(Faulty(logits_of(whole, handle), "A [SEG] by its [AFF].")).find(*table(RIGHT), HAMMER)
    assert [int(p.mask.sum()) for p in found] == [int(handle.sum()), int(whole.sum())]
    speck, blank = rectangle(50, 95, 53, 98), rectangle(0, 0, 0, 0)
    found = tool(Faulty(logits_of(blank, speck, handle), "[AFF] [AFF] [AFF]")).find(*table(RIGHT), HAMMER)
    assert len(found) == 1
    with pytest.raises(StageFailure, match="9 pixels") as failure:
        tool(Faulty(logits_of(blank, speck))).find(*table(RIGHT), HAMMER)
    assert failure.value.code == "grounding.empty_mask"


def test_an_answer_without_a_mask_is_not_found():
    with pytest.raises(StageFailure, match="'I see a mug.' without a mask") as failure:
        tool(Faulty(None, "I see a mug.")).find(*table(RIGHT), HAMMER)
    assert (failure.value.stage, failure.value.code) == ("ground", "grounding.not_found")


def test_folders_are_told_apart_by_their_config(tmp_path):
    assert kind_of("mini") == "mini"
    assert kind_of(str(AffordanceTool().checkpoint)) == "mini"
    for url in ("http://box:1", "https://box", "http:http://box:1"):
        assert kind_of(url) == "server"
        assert open_grounder(url).source == url.removeprefix("http:http:") or url.endswith(open_grounder(url).source)
    assert isinstance(open_grounder("mini"), AffordanceTool)
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    assert kind_of(str(tmp_path)) == "published"
    assert isinstance(open_grounder(str(tmp_path)), PublishedVlmTool)
    for text, words in (
        ("{}", "model_type"),
        ("[]", "JSON object"),
        ("no", "not JSON"),
        ('{"model_type": "opt"}', "opt"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(AffordAgentError, match=words):
            open_grounder(str(tmp_path))
    with pytest.raises(AffordAgentError, match="vlm is mini, the folder"):
        open_grounder("maxi")


def test_a_server_that_is_not_there_is_said_before_the_cell_moves(tmp_path, capsys):
    with serving(Faulty()) as url:
        pass
    assert main(["run", "the hammer", "--vlm", url, "--out", str(tmp_path / "run"), "--no-report"]) == 2
    assert f"cannot reach the model's server at {url}" in capsys.readouterr().err


def write_frame(prefix: Path, color: np.ndarray | None) -> None:
    """A table 0.8 m below a camera that looks straight down, with a thing on it; seen grey and red, or as `color`."""
    if color is None:
        color = np.full((240, 320, 3), 128, np.uint8)
        color[110:130, 140:200] = (30, 30, 200)
    depth = np.full((240, 320), 800, np.uint16)
    depth[110:130, 140:200] = 760
    cv2.imwrite(f"{prefix}_color.png", color)
    cv2.imwrite(f"{prefix}_depth.png", depth)
    facts = {"width": 320, "height": 240, "fx": 300.0, "fy": 300.0, "cx": 159.5, "cy": 119.5, "depth_unit_m": 0.001}
    Path(f"{prefix}_camera.json").write_text(json.dumps(facts))


def run_on_frame(
    tmp_path: Path, capsys, vlm: str, *more: str, text: str = "pick up the box", color: np.ndarray | None = None
) -> tuple[dict, dict]:
    """The result of a run on a recorded frame, and the record of its first grounding."""
    write_frame(tmp_path / "box", color)
    folder = tmp_path / "run"
    where = ["--cell", f"frame:{tmp_path}/box", "--out", str(folder)]
    main(["run", text, *where, "--vlm", vlm, *more, "--json", "--no-report"])
    result = json.loads(capsys.readouterr().out)
    assert not (folder / "traceback.txt").exists()
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return result, next(e for e in events if e.get("stage") == "ground")


def test_a_run_over_http_takes_the_servers_mask(tmp_path, capsys, monkeypatch):
    """A model that marks the box: the path is planned on its mask, and the evidence names the server."""
    token = "sixteen-or-more-characters"
    monkeypatch.setenv("AFFORDAGENT_VLM_TOKEN", token)
    logits = np.full((1, 240, 320), -5.0, np.float32)
    logits[0, 112:128, 145:195] = 5.0
    with serving(Faulty(logits), token) as url:
        result, ground = run_on_frame(tmp_path, capsys, f"http:{url}")
    assert (result["outcome"], ground["evidence"]["tool"]) == ("planned", "published_vlm")
    evidence = json.loads((tmp_path / "run" / "part_mask.json").read_text())["evidence"]
    assert evidence["source"] == url
    assert evidence["question"] == "What is the affordance map of box in this image?"
    assert cv2.imread(str(tmp_path / "run" / "mask.png"), 0).astype(bool).sum() == 800
    assert token not in (tmp_path / "run" / "run.json").read_text()


def test_a_server_that_fails_in_a_run_is_a_typed_failure(tmp_path, capsys):
    model = Faulty()
    model.error = RuntimeError("out of memory")
    with serving(model) as url:
        result, _ = run_on_frame(tmp_path, capsys, url)
    assert (result["failure"]["stage"], result["failure"]["code"]) == ("ground", "tool.unavailable")
    assert f"{url} answered 500" in result["failure"]["message"]


@pytest.fixture
def tiny() -> Path:
    if not TINY.is_dir():
        pytest.skip("the tiny checkpoint is not on this machine (../shared/data/affordancevlm_tiny)")
    return TINY


def bench(tiny: Path) -> np.ndarray:
    """(240, 320, 3) BGR."""
    return cv2.imread(str(tiny / "inputs" / "bench.png"))


def table_of(color: np.ndarray) -> tuple[RgbdFrame, TableScene]:
    """What the camera sees, with nothing on the table."""
    camera = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
    frame = RgbdFrame(np.ascontiguousarray(color[..., ::-1]), np.full((240, 320), 0.8, np.float32), camera)
    return frame, TableScene(np.array([0.0, 0, -1, 0.8]), np.zeros((240, 320), np.float32), [])


def check_tiny_run(result: dict, ground: dict) -> None:
    """The tiny weights mean nothing: their mask, a third of the picture, is doubted, and the run ends typed."""
    assert ground["evidence"]["tool"] == "published_vlm"
    assert ground["evidence"]["confidence"] < Settings().sure_above
    assert result["outcome"] == "planned" or result["failure"]["code"].partition(".")[0] in (
        "grounding",
        "depth",
        "grasp",
    )


@pytest.mark.slow
def test_the_command_serves_a_checkpoint_and_stops_when_asked(tiny, tmp_path, capsys):
    """Two processes, as on two machines: `serve-vlm` with the tiny checkpoint, and a run that asks it."""
    arguments = ["--checkpoint", str(tiny / "ckpt"), "--vision-tower", str(tiny / "vision_tower"), "--port", "0"]
    environment = {**os.environ, "AFFORDAGENT_VLM_TOKEN": ""}
    server = subprocess.Popen(
        [sys.executable, "-m", "affordagent.agent.cli", "serve-vlm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("ckpt (float32) on http://127.0.0.1:"), line
        url = line.split()[3].rstrip(";")
        health = VlmClient(url).health()
        assert (health["model"], health["dtype"]) == ("ckpt", "float32")
        check_tiny_run(*run_on_frame(tmp_path, capsys, url, text="the hammer", color=bench(tiny)))
        (part,) = open_grounder(url).find(*table_of(bench(tiny)), HAMMER)
        reference = cv2.imread(str(tiny / "reference" / "a0_mask0.png"), 0) > 0
        assert (part.mask & ~reference).sum() <= 0.002 * reference.sum(), "only what the reference marked is taken"
        assert abs(part.evidence["mask_px"] - reference.sum()) <= 0.002 * reference.sum()
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def test_a_checkpoint_in_a_folder_runs_in_the_pipeline(tiny, tmp_path, capsys):
    folders = [str(tiny / "ckpt"), "--vision-tower", str(tiny / "vision_tower")]
    check_tiny_run(*run_on_frame(tmp_path, capsys, *folders, text="the hammer", color=bench(tiny)))


def test_addresses_and_tokens(capsys):
    assert checked_token(None, "127.0.0.1") is checked_token("", "::1") is checked_token(None, "localhost") is None
    assert checked_token("x" * 16, "0.0.0.0") == "x" * 16
    for host in ("0.0.0.0", "::", "192.168.0.7", "gpu-box"):
        with pytest.raises(AffordAgentError, match="AFFORDAGENT_VLM_TOKEN"):
            checked_token(None, host)
    for token in ("short", "with blanks in between", "gl\xfcck" * 5):
        with pytest.raises(AffordAgentError, match="at least 16"):
            checked_token(token, "127.0.0.1")
    assert main(["serve-vlm", "--checkpoint", "/nowhere", "--host", "0.0.0.0"]) == 2
    assert "--token" in capsys.readouterr().err, "the token is asked for before anything is loaded"


def test_a_port_that_is_taken_is_named_before_loading():
    with bound_socket("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AffordAgentError, match=f"port {port}"):
            bound_socket("127.0.0.1", port)
    with pytest.raises(AffordAgentError, match="99999, must be 0 to 65535"):
        bound_socket("127.0.0.1", 99999)


def test_the_mini_model_can_be_served(monkeypatch):
    """Its picture-only proposals are given here; what is tested is the form of its answer, over HTTP."""
    frame, scene = table(RIGHT)
    frame.color[RIGHT] = (180, 30, 30)
    monkeypatch.setattr("affordagent.agent.mini_vlm.scene_of_picture", lambda image: (frame, scene))
    with serving(MiniVlm(AffordanceTool().checkpoint)) as url:
        client = VlmClient(url)
        answer: VlmAnswer = client.answer(frame.color, "What is the affordance map of box in this image?")
        assert answer.mask_logits.shape[1:] == SIZE
        assert len(answer.mask_logits) == answer.text.count("[AFF]")
        with pytest.raises(AffordAgentError, match="without `reply`"):
            client.teacher_forced(frame.color, "the box", "[AFF]")
