"""Talks over the simulated cell: what was said, seen and taken before is kept, and nothing moves unasked."""

import threading

import pytest

from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.talk.conversation import Conversation, read_talk
from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.core.types import FunctionalQuery


@pytest.fixture(scope="module")
def tools():
    return Tools()


def talk_over(session, root, *answers, name="talk"):
    """The conversation, its events, and the questions that were asked before motions."""
    events, questions, left = [], [], list(answers)

    def answer(question):
        questions.append(question["question"])
        return left.pop(0)

    return Conversation(session, root, name, tell=events.append, answer=answer), events, questions


def test_which_one_and_back_again(tools, tmp_path):
    """Two mugs: asked which, it takes the one that is chosen; then that one is put back where it was."""
    with Session(Settings(scene="twins", seed=3, ask_which=0.5), tools) as session:
        talk, events, _ = talk_over(session, tmp_path)
        state = talk.say("pick up the mug")
        labels = [choice["label"] for choice in state["asked"]["choices"]]
        assert labels == ["the orange one, on the left", "the black one, on the right"]
        assert not any(path.name == MOTIONS_FILE for path in tmp_path.rglob("*"))
        state = talk.say("the black one")
        assert FunctionalQuery.model_validate(state["held"]["query"]).category == "mug"
        assert state["held"]["at_m"][1] == pytest.approx(-0.08, abs=0.03)
        before = {o.name: o.T_base_object for o in session.cell.truth()}
        state = talk.say("put it back")
        assert state["held"] is None
        session.cell.look()
        after = {o.name: o.T_base_object for o in session.cell.truth()}
        assert abs(after["mug_4"][:2, 3] - before["mug_4"][:2, 3]).max() < 0.03
    said = [event.text for event in events if event.kind in ("say", "ask")]
    assert said[1:] == ["I hold the mug by its handle.", "Done: the mug is back where it was."]
    assert state["counts"] == {"questions": 1, "runs": 3}
    turns = read_talk(tmp_path, "talk")
    assert [turn["text"] for turn in turns if turn["who"] == "person"] == [
        "pick up the mug",
        "the black one",
        "put it back",
    ]


def test_a_plan_is_undone_by_a_word(tools, tmp_path):
    """Asked before the motion, "no, by the rim" makes another plan; a plain "no" makes none. Nothing has moved."""
    with Session(Settings(scene="kitchen", seed=2, confirm=True), tools) as session:
        talk, events, questions = talk_over(session, tmp_path, "no, by the rim", "no")
        state = talk.say("pick up the mug by its handle")
    assert len(questions) == 2
    runs = [event for event in events if event.kind == "run"]
    assert [run.data["failure"]["code"] for run in runs] == ["execution.declined"] * 2
    assert state["thing"]["query"]["part"] == "rim"
    assert not any(read_motions(run.run / MOTIONS_FILE) for run in runs)


def test_stop_from_elsewhere_while_it_plans(tools, tmp_path):
    with Session(Settings(scene="kitchen", seed=2), tools) as session:
        talk, events, _ = talk_over(session, tmp_path)
        inner = talk._tell

        def tell(event):
            inner(event)
            if event.kind == "stage" and event.text == "propose":
                threading.Thread(target=talk.stop).start()

        talk._tell = tell
        state = talk.say("pick up the mug")
        (run,) = [event for event in events if event.kind == "run"]
        assert run.data["failure"]["code"] == "execution.stopped"
        assert not read_motions(run.run / MOTIONS_FILE)
        assert state.get("held") is None
        talk._tell = inner
        assert talk.say("thank you")["turns"][-1]["text"] == "You are welcome."  # the talk goes on


@pytest.mark.slow
def test_the_other_one_is_taken_after_the_first_is_put_back(tools, tmp_path):
    with Session(Settings(scene="twins", seed=3), tools) as session:
        talk, events, _ = talk_over(session, tmp_path)
        first = talk.say("pick up the orange mug")["held"]
        state = talk.say("no, the other one")
        assert state["held"]["at_m"] != first["at_m"]
        assert [e.text for e in events if e.kind == "run"] == ["success"] * 3
        state = talk.say("pick up the ladle")
        assert state["asked"]["kind"] == "whether"  # the hand is full
        state = talk.say("yes")
        assert FunctionalQuery.model_validate(state["held"]["query"]).category == "ladle"


@pytest.mark.slow
def test_what_was_held_in_a_simulation_that_ended_is_forgotten(tools, tmp_path):
    with Session(Settings(scene="kitchen", seed=2), tools) as session:
        talk_over(session, tmp_path)[0].say("pick up the mug by its handle")
    with Session(Settings(scene="kitchen", seed=2), tools) as session:
        talk, _, _ = talk_over(session, tmp_path)
        assert talk.say("put it back")["turns"][-1]["text"] == "I hold nothing."
        assert talk.say("put it next to the pot")["held"] is None  # it knows which thing is meant, and takes it anew
