"""The page on which people say what they would say, and the file that it writes."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from affordagent.agent.pictures import OBJECT_RGB
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.commands.collecting import Answers, Task, _needs, make_tasks
from affordagent.evaluations.commands.command import CommandGold, read_commands
from affordagent.evaluations.commands.page import PageLimits, Rate, create_app
from affordagent.robot.sim.scene import sample_scene

WRITER = "p-0123456789ab"
TOKEN = "0123456789abcdef"


def task(number: int, asking="thing", need="") -> Task:
    gold = CommandGold(categories=("mug",), objects=(f"mug_{number}",))
    return Task(f"mixed-{number}-mug_{number}", f"mixed:{number}", gold, asking, need, b"picture")


TASKS = [task(0), task(1), task(2, "need", "The coffee is ready, and you have nothing to drink it from.")]


@pytest.fixture
def answers(tmp_path):
    return Answers(tmp_path / "answers.jsonl")


@pytest.fixture
def client(answers):
    return TestClient(create_app(TASKS, answers, None))


def answer(client, number=0, text="hand me that mug please", **fields):
    body = {"writer": WRITER, "task": TASKS[number].id, "text": text, "language": "en", "consent": True}
    return client.post("/api/answer", json=body | fields)


def test_a_writer_gets_every_task_once_and_the_answers_are_commands(client, answers):
    said = client.post("/api/task", json={}).json()
    assert re.fullmatch("p-[0-9a-f]{12}", said["writer"])
    seen = []
    while (shown := said["task"]) is not None:
        assert "gold" not in shown
        assert "mug" not in shown["need"]
        assert shown["picture"].startswith("data:image/jpeg;base64,")
        seen.append(shown["id"])
        body = {"writer": said["writer"], "task": shown["id"], "text": f"mug {shown['id']}, please", "consent": True}
        assert client.post("/api/answer", json=body).status_code == 200
        said = client.post("/api/task", json={"writer": said["writer"]}).json()
    assert sorted(seen) == sorted(t.id for t in TASKS)
    assert (said["done"], said["of"]) == (3, 3)
    kept = read_commands(answers.file)
    assert {c.scene for c in kept} == {"mixed:0", "mixed:1", "mixed:2"}
    assert {c.writer for c in kept} == {said["writer"]}
    assert all(c.expected == "grasp" and c.style == "natural" for c in kept)


def test_tasks_with_the_fewest_answers_come_first_and_skipped_ones_do_not_come(answers):
    first = answers.next_task(TASKS, WRITER)
    answers.add(first, "p-aaaaaaaaaaaa", "the mug over here", "en")
    second = answers.next_task(TASKS, WRITER)
    assert second is not first
    assert answers.next_task(TASKS, WRITER, {second.id}) not in (first, second)
    assert answers.next_task(TASKS, WRITER, {t.id for t in TASKS}) is None


def test_an_answer_sent_twice_is_kept_once(client, answers):
    ids = {answer(client).json()["id"], answer(client, text="something else now").json()["id"]}
    assert len(ids) == 1
    assert [c.text for c in read_commands(answers.file)] == ["hand me that mug please"]


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"text": "mail joe@example.com the mug"}, 422, "e-mail"),
        ({"text": "<script>alert(1)</script> mug"}, 422, "markup"),
        ({"text": "m" * 501}, 422, "at most 500"),
        ({"text": "ok"}, 422, "too short"),
        ({"consent": False}, 422, "tick that"),
        ({"task": "mixed-99-mug_1"}, 404, "reload"),
        ({"writer": "Joe Doe"}, 422, "writer"),
        ({"language": "<b>"}, 422, "language"),
        ({"task": TASKS[2].id, "text": "the coffee is ready and you have nothing to drink it from"}, 422, "own words"),
    ],
)
def test_what_is_not_fit_is_refused_with_the_mend(client, answers, fields, status, said):
    reply = answer(client, **fields)
    assert reply.status_code == status
    assert said in reply.json()["error"]["message"]
    assert read_commands(answers.file) == []


def test_a_body_without_end_is_not_read(client):
    reply = client.post("/api/answer", content=b"x" * 300_000)
    assert reply.status_code == 413


def test_a_token_is_needed_for_everything_but_the_empty_page(answers):
    client = TestClient(create_app(TASKS, answers, TOKEN))
    assert client.get("/").status_code == 200
    assert client.post("/api/task", json={}).status_code == 401
    assert client.post("/api/task", json={}, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_page_asks_for_consent_and_loads_nothing_from_elsewhere(client):
    reply = client.get("/")
    assert "may be kept" in reply.text
    assert "no names, numbers, e-mail addresses" in " ".join(reply.text.split())
    assert "http" not in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "{{" not in reply.text


def test_too_many_answers_a_minute_are_told_to_wait(answers):
    client = TestClient(create_app(TASKS, answers, None, PageLimits(answers=2)))
    statuses = [answer(client, number).status_code for number in (0, 1, 2)]
    assert statuses == [200, 200, 429]
    assert len(read_commands(answers.file)) == 2


def test_a_rate_forgets_after_a_minute():
    now = [0.0]
    rate = Rate(2, lambda: now[0])
    rate.count("a")
    rate.count("a")
    rate.count("b")
    with pytest.raises(AffordAgentError, match="wait 61 s"):
        rate.count("a")
    now[0] = 61.0
    rate.count("a")


def test_a_server_goes_on_with_its_file_after_a_kill(tmp_path):
    file = tmp_path / "answers.jsonl"
    Answers(file).add(TASKS[0], WRITER, "the mug please", "en")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 2])  # the second one was cut off
    again = Answers(file)
    assert file.read_bytes() == whole
    assert again.done(WRITER, TASKS) == 1
    file.write_bytes(whole.rstrip())  # an editor has left out the last line's end
    Answers(file).add(TASKS[1], WRITER, "my mug, quickly", "en")
    assert [c.text for c in read_commands(file)] == ["the mug please", "my mug, quickly"]


def test_a_file_that_holds_something_else_is_not_written_to(tmp_path):
    file = tmp_path / "notes.jsonl"
    file.write_text('{"note": "mine"}\n')
    with pytest.raises(AffordAgentError, match="line 1"):
        Answers(file)
    assert file.read_text() == '{"note": "mine"}\n'


def test_needs_tell_what_is_to_be_done_and_not_what_it_is_done_with():
    assert set(_needs()) <= set(catalogue())
    for category, need in _needs().items():
        named = [n for n in catalogue()[category].names if re.search(rf"\b{re.escape(n)}\b", need.lower())]
        assert not named, (category, named)


def test_tasks_of_a_scene_show_its_things():
    tasks = make_tasks("mixed", [1])
    scene = sample_scene("mixed", 1)
    assert {t.gold.objects[0] for t in tasks} == {o.name for o in scene.objects}
    assert {t.asking for t in tasks} == {"thing", "part", "need"}
    for made in tasks:
        assert made.gold.names_in(scene) == {made.gold.objects[0]}
        assert (made.gold.part is not None) == (made.asking == "part")
        assert bool(made.need) == (made.asking == "need")
    shown = {t.asking: np.asarray(Image.open(io.BytesIO(t.picture)), np.int16) for t in tasks}
    green = {asking: _green(picture) for asking, picture in shown.items()}
    assert green["need"] < 50 < min(green["thing"], green["part"])
    with pytest.raises(AffordAgentError, match="nothing to ask for"):
        make_tasks("empty", [0])


def _green(picture):
    """Pixels in the frame's colour, as far as JPEG keeps it."""
    return int((np.abs(picture - np.array(OBJECT_RGB)).max(2) < 25).sum())


def test_what_a_served_page_has_acknowledged_survives_a_kill(tmp_path):
    out = tmp_path / "said.jsonl"
    line = [sys.executable, "-m", "affordagent.agent.cli", "commands", "collect", "--seeds", "1", "--port", "0"]
    with subprocess.Popen(
        [*line, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as p:
        try:
            assert p.stdout is not None
            address = p.stdout.readline().split(": ")[0]
            assert address.startswith("http://127.0.0.1:")
            shown = httpx.post(f"{address}api/task", json={}, timeout=30).json()
            body = {
                "writer": shown["writer"],
                "task": shown["task"]["id"],
                "text": "that thing please",
                "consent": True,
            }
            assert httpx.post(f"{address}api/answer", json=body, timeout=30).status_code == 200
            os.kill(p.pid, signal.SIGKILL)
            assert json.loads(out.read_text())["text"] == "that thing please"
        finally:
            p.kill()
            p.wait(30)
