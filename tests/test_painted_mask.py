"""A person marks the part to hold: the run goes by it, and not when the scene has changed since."""

import json
from dataclasses import replace

import numpy as np
import pytest

from affordagent.agent.language.understand import understand
from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.talk.conversation import Conversation
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.journal import MOTIONS_FILE
from affordagent.core.run_store import RunStore
from affordagent.core.types import PaintedMask
from affordagent.graphs.by_hand import MARKED, read_pointing
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.scene import sample_scene
from affordagent.tools.painted import CHANGED, PERSON, change_of, check_unchanged, part_of
from affordagent.tools.table import find_objects

KITCHEN = Settings(scene="kitchen", seed=2, confirm=True)


@pytest.fixture(scope="module")
def tools():
    return Tools()


def things(session):
    return {thing.category: thing for thing in session.cell.truth()}


def shift(cell, name, along_m):
    """Move a thing on the table."""
    joint = cell.model.body(name).jntadr[0]
    cell.data.qpos[cell.model.jnt_qposadr[joint]] += along_m


def test_another_part_is_marked_and_taken(tools, tmp_path):
    """The mug's handle was planned, its body is marked, and the grasp is on the body."""
    with Session(KITCHEN.model_copy(update={"confirm": False}), tools) as session:
        frame = session.cell.look()
        mug = things(session)["mug"]
        session.cell.gold = Gold(frozenset([mug.name]), "body")
        body = mug.mask & ~mug.part_mask
        result = session.run("take it by here", tmp_path / "run", mask=PaintedMask(body, frame))
    assert result.outcome == "success", result.failure
    store = RunStore(result.run_dir)
    assert store.get("verdict").measured["part_share"] > 0.9
    part = store.get("part_mask")
    assert (part.tool, part.confidence, part.presence) == (PERSON, 1.0, 1.0)
    assert not (part.mask & mug.part_mask).any()
    ground = next(stage for stage in result.stages if stage["stage"] == "ground")
    assert ground["evidence"]["tool"] == PERSON
    assert ground["evidence"]["changed_under_fraction"] <= CHANGED
    assert result.query["object_words"] == MARKED
    kept = RunStore(result.run_dir).get("painted")
    assert (kept.mask == body).all()
    assert (kept.frame.color == frame.color).all()


def test_a_scene_that_has_changed_is_refused(tools, tmp_path):
    with Session(KITCHEN, tools) as session:
        frame = session.cell.look()
        mug = things(session)["mug"]
        shift(session.cell, mug.name, 0.02)
        result = session.run("hold this", tmp_path / "run", mask=PaintedMask(mug.part_mask, frame), ask=lambda _: True)
    assert (result.failure["stage"], result.failure["code"]) == ("ground", "grounding.mask_stale")
    assert "mark the part there" in result.failure["message"]
    assert not (tmp_path / "run" / MOTIONS_FILE).exists()


def test_what_is_in_the_hand_cannot_be_marked(tools, seen, tmp_path):
    frame, _, truth, _, _ = seen
    painted, session = PaintedMask(truth["mug"].mask, frame), Session(KITCHEN, tools)
    with pytest.raises(AffordAgentError, match="put down"):
        session.run("put it down", tmp_path / "b", held=tmp_path / "a", mask=painted)
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_talk_with_marks(tools, tmp_path):
    """Declined, marked by another part, planned anew for the same wish; then another thing goes into words' place."""
    with Session(KITCHEN, tools) as session:
        events, questions = [], []
        talk = Conversation(
            session, tmp_path, tell=events.append, answer=lambda q: (questions.append(q["question"]), "no")[1]
        )
        talk.say("pick up the mug by its handle")
        run = next(event.run for event in events if event.kind == "run")
        seen = things(session)
        mug, ladle = seen["mug"], seen["ladle"]
        state = talk.say_with_mask(run, mug.mask & ~mug.part_mask)
        assert state["thing"]["query"]["category"] == "mug"  # it can be spoken of by its name
        assert state["thing"]["query"]["part"] is None
        talk.say_with_mask(run, ladle.part_mask, "put it next to the mug")
        last = [event.run for event in events if event.kind == "run"][-1]
        query = json.loads((last / "query.json").read_text())
        assert query["destination"]["relation"] == "beside"
        assert (RunStore(last).get("part_mask").mask & ladle.mask).any()
        assert len(questions) == 3
        assert questions[1].startswith(f"The {MARKED} is picked up")
        with pytest.raises(AffordAgentError, match="cannot be used"):
            talk.say_with_mask(run, np.zeros((480, 640), bool))
        state = talk.say("thank you")  # the mark is not kept for later turns
        assert state["turns"][-1]["who"] == "robot"


@pytest.mark.parametrize(
    ("text", "intent"),
    [("take it by here", "pick"), ("hand it to me", "hand_over"), ("give me this", "hand_over"), ("by here", "pick"),
     ("put it in the box", "place"), ("stop", "stop")],
)  # fmt: skip
def test_words_with_a_mark(text, intent):
    query = read_pointing(text, understand)
    assert query.intent == intent
    assert not query.needs_clarification
    assert query.category is None


def test_where_to_is_asked_even_with_a_mark():
    query = read_pointing("put it down", understand)
    assert query.needs_clarification
    assert "Where" in query.question


@pytest.fixture(scope="module")
def seen():
    """Frame, table and truth of a noisy scene, and the same scene looked at anew, as it was and with the mug moved."""
    with SimCell(sample_scene("kitchen", 2), noise=True, seed=2) as cell:
        frame = cell.look()
        truth = {thing.category: thing for thing in cell.truth()}
        again = cell.look()
        shift(cell, truth["mug"].name, 0.02)
        moved = cell.look()
    return frame, find_objects(frame), truth, again, moved


def test_noise_is_no_change_and_a_moved_thing_is_one(seen):
    frame, table, truth, again, moved = seen
    for thing in truth.values():
        change = check_unchanged(PaintedMask(thing.part_mask, frame), again, table)
        assert change.told > 0.5
    mug = PaintedMask(truth["mug"].part_mask, frame)
    assert max(change_of(mug, moved, table).under, change_of(mug, moved, table).around) > CHANGED
    with pytest.raises(StageFailure, match="not as they were") as failure:
        check_unchanged(mug, moved, table)
    assert failure.value.code == "grounding.mask_stale"
    assert failure.value.evidence["changed_under_fraction"] >= 0
    check_unchanged(PaintedMask(truth["ladle"].part_mask, frame), moved, table)  # elsewhere all is as it was


def test_another_camera_and_a_covered_lens_are_changes(seen):
    frame, table, truth, again, _ = seen
    painted = PaintedMask(truth["mug"].part_mask, frame)
    with pytest.raises(StageFailure, match="another camera"):
        check_unchanged(painted, replace(again, camera=replace(again.camera, fx=500.0)), table)
    blind = replace(again, depth_m=np.zeros_like(again.depth_m))
    with pytest.raises(StageFailure, match="can be compared"):
        check_unchanged(painted, blind, table)
    dark = replace(again, color=again.color // 3)
    with pytest.raises(StageFailure, match="not as they were"):
        check_unchanged(painted, dark, table)


def test_which_thing_a_mask_lies_on(seen):
    frame, table, truth, _, _ = seen
    mug, ladle = truth["mug"], truth["ladle"]
    part = part_of(PaintedMask(mug.part_mask, frame), table)
    assert (part.object_mask & mug.mask).sum() > 0.9 * mug.mask.sum()
    with pytest.raises(StageFailure, match="lies on 2 things") as failure:
        part_of(PaintedMask(mug.mask | ladle.mask, frame), table)
    assert failure.value.code == "grounding.implausible"
    beside = max((p.mask for p in table.proposals), key=lambda mask: int((mask & ladle.mask).sum()))
    speck = np.zeros_like(mug.mask)
    speck[tuple(np.argwhere(beside)[:20].T)] = True
    part = part_of(PaintedMask(mug.mask | speck, frame), table)  # it slipped over: that is left out
    assert not (part.mask & speck).any()
    assert part.evidence["left_out_px"] == 20


def test_marks_that_are_none(seen):
    frame = seen[0]
    with pytest.raises(ValueError, match="nothing is marked"):
        PaintedMask(np.zeros(frame.depth_m.shape, bool), frame)
    with pytest.raises(ValueError, match="give a bool"):
        PaintedMask(np.ones((4, 4), bool), frame)
