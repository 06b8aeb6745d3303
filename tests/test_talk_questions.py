"""Talks over the simulated cell: answers come from what was seen and done, a plan is looked for before it begins, and
no message and no stop leaves a talk that cannot go on."""

import io
import json
import threading

import numpy as np
import pytest
from chat_service import chatting
from fuzzed_messages import messages
from test_language_llm import malformed

from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.talk.conversation import Conversation, Event, read_talk
from affordagent.agent.web.text import shown
from affordagent.core.journal import MOTIONS_FILE, read_motions

STAGES = ("read", "understand", "look", "ground", "lift", "propose", "plan", "confirm", "execute", "verify")


@pytest.fixture(scope="module")
def tools():
    return Tools()


@pytest.fixture(scope="module")
def kitchen(tools):
    """Every motion is asked about."""
    with Session(Settings(scene="kitchen", seed=2, confirm=True, ask_which=0.2), tools) as session:
        yield session


def talk_over(session, root, *answers):
    """The talk and its events. answers: to the questions before motions, then no."""
    events, left = [], list(answers)
    talk = Conversation(session, root, tell=events.append, answer=lambda question: left.pop(0) if left else "no")
    return talk, events


def said(events):
    return [event.text for event in events if event.kind in ("say", "ask")]


def nothing_moved(root):
    return not any(read_motions(file) for file in root.rglob(MOTIONS_FILE))


def test_questions_before_a_motion_are_answered_and_move_nothing(kitchen, tmp_path):
    asked = ("what do you see?", "why that one?", "what will you do?", "yes, but slowly", "what are you holding?")
    talk, events = talk_over(kitchen, tmp_path, *asked, "no")
    talk.say("pick up the mug")
    seen, why, plan, plain, holding = said(events)[:5]
    assert seen.startswith("I see 5 things")
    assert "measuring cup" in seen
    assert "fits “mug” best" in why
    assert "takes the mug by its handle" in plan
    assert plain.startswith("Only a plain yes")
    assert holding == "I hold nothing."
    assert [event.text for event in events if event.kind == "run"] == ["refused"]
    talk.say("why did that fail?")
    assert said(events)[-1].startswith("It did not fail")
    assert nothing_moved(tmp_path)


def test_every_step_is_looked_for_before_the_first_motion(kitchen, tmp_path):
    talk, events = talk_over(kitchen, tmp_path, "yes")
    state = talk.say("hand me the mug and the hammer")
    assert said(events)[-1].startswith("Step 2, to hand you the hammer: I see no hammer")
    assert not state.get("asked")
    talk.say("why?")
    assert "grounding.not_found" in said(events)[-1]
    assert nothing_moved(tmp_path)
    talk, events = talk_over(kitchen, tmp_path, "no")
    talk.say("hand me the mug and then the ladle")
    plan, declined = said(events)
    assert plan == "This is what I do: 1. hand you the mug, 2. hand you the ladle."
    assert declined.endswith("I leave out what was to follow: hand you the ladle.")
    assert nothing_moved(tmp_path)


def test_where_a_thing_is_comes_from_the_picture(kitchen, tmp_path):
    talk, events = talk_over(kitchen, tmp_path)
    talk.say("where is the mug?")
    talk.say("is there a hammer?")
    there, absent = said(events)
    assert there.startswith("I see the mug: the ")
    assert absent.startswith("I see no hammer: ")
    assert not list(tmp_path.glob("2*"))  # no run was made for it


def check_survives(talk, events, root, texts):
    for text in texts:
        talk.say(text)
    assert nothing_moved(root)
    talk.say("what are you holding?")
    assert "I hold nothing." in said(events)[-2:]  # and what was asked before is asked again
    for turn in read_talk(root, "talk"):
        assert all(c == "\n" or c.isprintable() for c in shown(turn["text"]))
    for file in root.rglob("*.json*"):
        assert all(c == "\n" or ord(c) >= 32 for c in file.read_text())
        [json.loads(line) for line in file.read_text().splitlines() if file.suffix == ".jsonl"]


@pytest.mark.parametrize("count", [16, pytest.param(500, marks=pytest.mark.slow)])
def test_fuzzed_messages(kitchen, tmp_path, count):
    """The answers before motions are such messages too."""
    texts = messages(count)
    answers = [text for text in messages(count, seed=1) if not text.lower().startswith(("yes", "ok", "sure", "y"))]
    talk, events = talk_over(kitchen, tmp_path, *answers)
    check_survives(talk, events, tmp_path, texts)


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_malformed_replies_of_a_language_model(tools, tmp_path, count):
    """Through the whole talk, in a scene where nothing can be taken and every motion is asked about."""
    with chatting("") as service:
        reading = Tools(language=f"{service.url},model")
        reading.reader.chat._client.max_retries = 0
        loaded = {name: getattr(tools, name) for name in ("grounder", "fallback", "grasp_backend", "namer")}
        reading.__dict__.update(loaded)
        with Session(Settings(scene="empty", confirm=True), reading) as session:
            talk, events = talk_over(session, tmp_path)
            for reply in malformed(count):
                service.replies = [reply]
                talk.say("grab the red mug by the handle")
                assert said(events)[-1]
            service.replies = ["{}"]
            check_survives(talk, events, tmp_path, ["stop"])


def test_words_do_not_steer_the_terminal():
    from rich.console import Console

    from affordagent.agent.cli_chat import _Screen

    out = io.StringIO()
    screen = _Screen(Console(file=out, force_terminal=False, width=200))
    hostile = "\x1b[2J\x1b]0;title\x07the \u202emug\x9b31m [bold]no markup[/bold]"
    screen.show(Event("stage", hostile))
    screen.show(Event("ask", hostile, {"choices": [{"label": hostile}]}))
    screen.show(Event("record", hostile, {"stage": "look", "status": "ok"}))
    assert not set(out.getvalue()) & set("\x1b\x07\x9b\u202e")
    assert "[bold]no markup[/bold]" in out.getvalue()


def stopped_during(stage, session, root):
    """A turn that somebody else stops when `stage` begins."""
    talk, events = talk_over(session, root, "yes", "yes")
    inner = talk._tell

    def tell(event):
        inner(event)
        if event.kind == "stage" and event.text == stage and not any(e.kind == "run" for e in events):
            thread = threading.Thread(target=talk.stop)
            thread.start()
            thread.join(30)

    talk._tell = tell
    state = talk.say("pick up the mug")
    talk._tell = inner
    return talk, events, state


@pytest.mark.parametrize("stage", ["read", "ground", "confirm"])
def test_a_stop_at_any_stage_moves_nothing(kitchen, tmp_path, stage):
    before = kitchen.cell.arm.read().positions
    talk, events, state = stopped_during(stage, kitchen, tmp_path)
    assert nothing_moved(tmp_path)
    assert state.get("held") is None
    assert said(events)
    runs = [event.data["failure"]["code"] for event in events if event.kind == "run"]
    assert runs == ([] if stage == "read" else ["execution.stopped"])
    np.testing.assert_array_equal(kitchen.cell.arm.read().positions, before)
    talk.say("what can you do?")
    assert said(events)[-1].startswith("I pick things up")


@pytest.mark.slow
def test_a_stop_at_every_stage_and_the_talk_goes_on(tools, tmp_path):
    for stage in STAGES:
        with Session(Settings(scene="kitchen", seed=2, confirm=True), tools) as session:
            root = tmp_path / stage
            talk, events, _ = stopped_during(stage, session, root)
            if stage not in ("execute", "verify"):
                assert nothing_moved(root), stage
            at = session.cell.arm.read().positions
            talk.say("what are you holding?")
            np.testing.assert_array_equal(session.cell.arm.read().positions, at)
            assert said(events)[-1].startswith("I hold"), stage
            if stage not in ("execute", "verify"):
                talk._answer = lambda question: "yes"
                talk.say("pick up the mug")
                assert said(events)[-1] == "I hold the mug by its handle.", stage


@pytest.mark.slow
def test_two_things_handed_over_leave_the_table_and_undo_puts_back(tools, tmp_path):
    with Session(Settings(scene="twins", seed=3, ask_which=0.2), tools) as session:
        talk, events = talk_over(session, tmp_path)
        talk.say("hand me the mug and the ladle")
        state = talk.say("both")
        assert [e.text for e in events if e.kind == "run"][-3:] == ["success"] * 3
        assert state.get("held") is None
        session.cell.look()
        visible = {thing.name for thing in session.cell.truth() if thing.mask.any()}
        assert visible == {"slip_joint_pliers_1", "adjustable_wrench_3"}
        before = {o.name: o.T_base_object for o in session.cell.truth()}["adjustable_wrench_3"]
        talk.say("pick up the wrench")
        talk.say("undo")
        assert said(events)[-1].endswith("is back where it was.")
        session.cell.look()
        after = {o.name: o.T_base_object for o in session.cell.truth()}["adjustable_wrench_3"]
        assert abs(after[:2, 3] - before[:2, 3]).max() < 0.03
