"""What a person paints and says of a run: kept whole, shown again, by nobody without the token."""

import base64
import io
import json

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from affordagent.agent.cli import main
from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.evaluations.causes.annotate import create_app
from affordagent.evaluations.causes.annotation import (
    OBJECT,
    PART,
    Annotation,
    labels_of,
    read_annotation,
    read_true_mask,
    runs_below,
    write_annotation,
    write_true_mask,
)

H, W, TOKEN = 24, 32, "t0ken-" * 4
THING = np.zeros((H, W), bool)
THING[5:15, 4:20] = True


@pytest.fixture
def runs(tmp_path):
    for name in ("a", "b"):
        store = RunStore(tmp_path / name)
        frame = RgbdFrame(
            np.full((H, W, 3), 90, np.uint8), np.ones((H, W), np.float32), CameraIntrinsics(W, H, 30, 30, 16, 12)
        )
        store.put("frame", frame)
        proposal = ObjectProposal(0, THING, (4, 5, 20, 15))
        store.put("table", TableScene(np.array([0, 0, -1, 1.0]), np.zeros((H, W), np.float32), [proposal]))
        store.put("part_mask", PartMask(THING, THING, 0.9, "test"))
        store.put("query", FunctionalQuery(text="the <b>mug</b>", intent="pick", category="mug", part="handle"))
        (tmp_path / name / "run.json").write_text(json.dumps({"command": "the <b>mug</b>", "outcome": "success"}))
    return runs_below(tmp_path)


@pytest.fixture
def page(runs):
    with TestClient(create_app(runs, None)) as client:
        yield client


def png(labels):
    file = io.BytesIO()
    Image.fromarray(labels).convert("RGBA").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def painted():
    labels = np.zeros((H, W), np.uint8)
    labels[5:15, 4:20], labels[5:15, 15:20] = OBJECT, PART
    return labels


def test_a_painted_mask_is_kept_and_shown_again(page, runs):
    kept = page.post("/api/mask", json={"run": "a", "png": png(painted())})
    assert kept.json() == {"object": 160, "part": 50}
    true_object, true_part = read_true_mask(runs["a"])
    assert np.array_equal(true_object, THING)
    assert true_part.sum() == 50
    shown = page.post("/api/run", json={"run": "a"}).json()
    assert np.array_equal(labels_of(base64.b64decode(shown["painted"].split(",")[1])), painted())
    assert shown["command"] == "the <b>mug</b>"  # the page puts it in as text
    assert shown["after"] is None
    assert [(r["run"], r["painted"]) for r in page.post("/api/runs").json()] == [("a", True), ("b", False)]
    assert not list(runs["a"].glob("*.part"))


def test_what_is_said_is_kept_and_shown_again(page, runs):
    said = {"outcome": "failure", "kind": "slipped", "thing": "Tasse", "part": "", "absent": False, "note": "größer"}
    assert page.post("/api/say", json={"run": "b", "said": said}).json() == {"kept": True}
    assert read_annotation(runs["b"]) == Annotation(**said)
    assert page.post("/api/run", json={"run": "b"}).json()["said"] == said
    assert page.post("/api/runs").json()[1]["said"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("run", {"run": "../a"}, 404),
        ("mask", {"run": "/etc", "png": ""}, 404),
        ("mask", {"run": "a", "png": "no base64!"}, 422),
        ("mask", {"run": "a", "png": base64.b64encode(b"no png").decode()}, 422),
        ("mask", {"run": "a", "png": png(np.zeros((H, W + 1), np.uint8))}, 422),
        ("say", {"run": "a", "said": {"outcome": "perhaps"}}, 422),
        ("say", {"run": "a", "said": {"note": "x" * 3000}}, 422),
        ("say", {"run": "a", "said": {"file": "/etc/passwd"}}, 422),
    ],
)
def test_nothing_else_can_be_read_or_written(page, runs, path, body, status):
    answer = page.post(f"/api/{path}", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
    assert read_annotation(runs["a"]) is None
    assert read_true_mask(runs["a"]) is None


def test_a_token_is_needed_where_there_is_one(runs):
    with TestClient(create_app(runs, TOKEN)) as client:
        assert client.get("/").status_code == 200  # the page alone says nothing
        assert client.post("/api/runs").status_code == 401
        assert client.post("/api/run", json={"run": "a"}, headers={"Authorization": "Bearer wrong"}).status_code == 401
        assert client.post("/api/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_page_needs_nothing_from_elsewhere(page):
    answer = page.get("/")
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_files_that_are_broken_are_said(runs):
    assert (read_annotation(runs["a"]), read_true_mask(runs["a"])) == (None, None)
    (runs["a"] / "annotation.json").write_text('{"outcome": ')
    (runs["a"] / "true_mask.png").write_bytes(b"\x89PNG")
    with pytest.raises(AffordAgentError, match="broken"):
        read_annotation(runs["a"])
    with pytest.raises(AffordAgentError, match="no PNG"):
        read_true_mask(runs["a"])
    write_annotation(runs["a"], Annotation(outcome="success"))
    write_true_mask(runs["a"], painted())
    assert read_annotation(runs["a"]).outcome == "success"


def test_where_there_is_nothing_to_annotate(tmp_path, capsys):
    assert main(["annotate", str(tmp_path)]) == 2
    assert "no run with a picture" in capsys.readouterr().err


def test_others_can_reach_it_with_a_token_only(runs, capsys):
    assert main(["annotate", str(runs["a"].parent), "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--token" in capsys.readouterr().err
