"""The hub: one commands, everybody watches and may stop; nothing moves by a stale, late or foreign answer."""

import threading
import time

import pytest

from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.web.hub import Hub
from affordagent.agent.web.seats import Seats
from affordagent.agent.web.text import shown
from affordagent.agent.web.words import chat, chat_items
from affordagent.core.journal import MOTIONS_FILE, read_motions

WAIT_S = 120.0


@pytest.fixture(scope="module")
def tools():
    return Tools()


def idle(now):
    return now.state != "busy"


def asks(now):
    return now.question is not None or now.state != "busy"


def kinds(hub):
    return [entry.kind for entry in hub.entries()]


def moved(hub):
    return any(read_motions(path) for path in hub.root.rglob(MOTIONS_FILE))


@pytest.fixture(scope="module")
def hub(tools, tmp_path_factory):
    """A cell that asks before it moves; one for the module, as opening it takes a second."""
    settings = Settings(scene="kitchen", seed=2, confirm=True, ask_which=0.5)
    with Hub(lambda: Session(settings, tools), tmp_path_factory.mktemp("runs")) as hub:
        yield hub


@pytest.fixture
def ann(hub):
    """The commander's seat."""
    assert hub.wait(idle, WAIT_S).state == "idle"
    hub.hand_over(hub.now().commander or "")
    assert hub.take("ann") is None
    return "ann"


def test_a_turn_is_told_stage_by_stage_and_no_is_no(hub, ann):
    first = hub.now().number
    assert hub.say(ann, "pick up the mug by its handle") is None
    told = hub.entries(first)
    assert (told[0].kind, told[0].text) == ("person", "pick up the mug by its handle")
    now = hub.wait(asks, WAIT_S)
    assert now.question is not None
    assert "Move the robot?" in now.question.text
    assert (
        hub.say("bob", "yes", now.question.number)
        == "Somebody else commands, and the robot is at work. You can stop it."
    )
    assert "has changed" in hub.say(ann, "yes", now.question.number - 1)
    assert "has changed" in hub.say(ann, "yes")
    assert hub.say(ann, "no", now.question.number) is None
    assert hub.wait(idle, WAIT_S).question is None
    told = hub.entries(first)
    assert [e.number for e in told] == list(range(first + 1, first + 1 + len(told)))
    stages = [e.text for e in told if e.kind == "stage"]
    assert stages == ["read", "understand", "look", "ground", "lift", "propose", "plan", "confirm", "confirm"]
    (answer,) = [e for e in told if e.kind == "answer"]
    assert answer.data == {"yes": False}
    assert not moved(hub)
    card = [item for item in chat_items(told) if item["kind"] == "steps"]
    assert [line["status"] for item in card for line in item["lines"]] == ["ok"] * 6 + ["refused"]
    assert card[-1]["outcome"] == "refused"


def test_an_answer_that_does_not_come_is_a_no(hub, ann):
    hub._confirm_within_s = 0.2
    try:
        assert hub.say(ann, "pick up the mug") is None
        hub.wait(idle, WAIT_S)
    finally:
        hub._confirm_within_s = WAIT_S
    assert "nobody answered" in next(e.text for e in reversed(hub.entries()) if e.kind == "answer")
    assert not moved(hub)


def test_a_stop_wins_over_a_yes(hub, ann):
    assert hub.say(ann, "pick up the mug") is None
    question = hub.wait(asks, WAIT_S).question
    hub.stop()
    hub.say(ann, "yes", question.number)
    assert hub.wait(idle, WAIT_S).state == "idle"
    assert not moved(hub)
    assert "stop" in kinds(hub)


@pytest.mark.parametrize("stage", ["read", "ground", "plan"])
def test_a_stop_at_any_moment_ends_the_turn_at_once(hub, ann, stage):
    """From another thread, the moment that the stage begins; the stop itself waits for nothing."""
    spent_s = []

    def press():
        hub.wait(lambda now: now.stage == stage or now.state != "busy", WAIT_S)
        start = time.perf_counter()
        hub.stop()
        spent_s.append(time.perf_counter() - start)

    first = hub.now().number
    presser = threading.Thread(target=press)
    assert hub.say(ann, "pick up the mug by its handle") is None
    presser.start()
    presser.join(WAIT_S)
    assert hub.wait(idle, WAIT_S).question is None
    told = hub.entries(first)
    assert not [e for e in told if e.kind == "confirm"]
    assert not moved(hub)
    assert spent_s[0] < 1.0, "of a loaded machine; docs/web.md has the measured times"
    assert hub.say(ann, "thank you") is None  # the talk goes on
    assert hub.wait(idle, WAIT_S).state == "idle"
    assert hub.entries()[-1].kind == "say"


def test_words_that_a_stop_has_overtaken_are_not_carried_out(hub, ann):
    """Said, then STOP was pressed, and STOP was quicker."""
    stops, first = hub.now().stops, hub.now().number
    hub.stop()
    assert "STOP was pressed" in hub.say(ann, "pick up the mug", stops=stops)
    assert "STOP was pressed" in hub.use_mask(ann, hub.root / "run", None, stops=stops)
    assert not [e for e in hub.entries(first) if e.kind == "person"]
    assert hub.say(ann, "thank you", stops=stops + 1) is None
    assert hub.wait(idle, WAIT_S).state == "idle"


def test_a_busy_robot_takes_no_turn_and_a_text_has_limits(hub, ann):
    assert hub.say(ann, "   ") is not None
    assert "100000 characters, at most" in hub.say(ann, "a" * 100_000)
    assert hub.say(ann, "pick up the mug") is None
    assert hub.say(ann, "pick up the pan") in (
        "I am still at work: wait, or press STOP.",
        "The question has changed: look again, then answer.",
    )
    hub.stop()
    assert hub.wait(idle, WAIT_S).state == "idle"


def test_the_part_that_is_marked_is_taken_instead(hub, ann):
    """While a plan waits for an answer: that is a no, and a run by the mask follows."""
    from affordagent.core.run_store import RunStore

    assert hub.say(ann, "pick up the mug by its handle") is None
    now = hub.wait(asks, WAIT_S)
    run = hub.root / now.run
    mask = RunStore(run).get("part_mask").mask
    assert hub.use_mask("bob", run, mask) is not None
    assert hub.use_mask(ann, run, mask) is None
    after = hub.wait(lambda n: n.run != now.run and asks(n), WAIT_S)
    assert after.question is not None
    assert RunStore(hub.root / after.run).get("part_mask").tool == "person"
    hub.stop()
    assert hub.wait(idle, WAIT_S).state == "idle"
    assert not moved(hub)


def test_a_bug_ends_the_hub_and_says_so(tools, tmp_path):
    with Hub(lambda: Session(Settings(scene="bench", seed=0), tools), tmp_path) as hub:
        hub._talk.say = lambda text: 1 / 0
        assert hub.say("ann", "pick up the mug") is None
        assert hub.wait(idle, WAIT_S).state == "ended"
        assert hub.entries()[-1].kind == "end"
        assert "start affordagent web again" in hub.say("ann", "pick up the mug")
        hub.stop()
    assert hub.picture().shape[2] == 3


# ---- who commands ---------------------------------------------------------------------------------------------------


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def seats():
    clock = Clock()
    return Seats(gone_s=10.0, silent_s=60.0, clock=clock)


def test_whoever_speaks_first_commands(seats):
    seats.seen("ann")
    seats.seen("bob")
    assert seats.watching == 2
    assert seats.speak("ann", busy=False) is None
    assert seats.commander == "ann"
    assert "somebody else" in seats.speak("bob", busy=False).lower()
    assert seats.take("bob", busy=False) is not None
    assert not seats.hand_over("bob")


def test_command_is_handed_over(seats):
    seats.seen("ann")
    seats.take("ann", busy=False)
    assert seats.hand_over("ann")
    assert seats.speak("bob", busy=True) is None
    assert seats.commander == "bob"


def test_who_has_gone_or_is_silent_is_relieved_but_not_while_it_works(seats):
    seats.seen("ann")
    seats.take("ann", busy=False)
    for _ in range(12):
        seats.clock.now_s += 6.0
        seats.seen("ann")
    assert seats.take("bob", busy=True) is not None  # silent, but there, and the robot is at work
    assert seats.speak("bob", busy=False) == "You are watching: take command first."
    assert seats.take("bob", busy=False) is None
    seats.seen("bob")
    seats.clock.now_s += 11.0  # the page is closed
    assert seats.take("ann", busy=True) is None


# ---- what is shown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fit"),
    [
        ("plain\nlines", "plain\nlines"),
        ("a\x00b\x1b[31mc", "a\ufffdb\ufffd[31mc"),
        ("\u202etxt.exe\u200b", "txt.exe"),
        ("tab\there\u00a0", "tab here "),
        ("\ud800", "\ufffd"),
    ],
)
def test_texts_are_made_fit_to_be_shown(text, fit):
    assert shown(text) == fit


def test_long_texts_are_cut():
    assert shown("x" * 100_000) == "x" * 600 + "... (100000 characters)"


def test_nothing_that_is_said_becomes_markup():
    from affordagent.agent.web.hub import Entry

    nasty = "<script>alert(1)</script><img src=x onerror=alert(2)>${alert(3)}{{4}}`5`\\"
    html = chat(
        [
            Entry(1, 0.0, "person", nasty),
            Entry(2, 0.0, "stage", nasty, {}, "run"),
            Entry(3, 0.0, "record", nasty, {"stage": nasty, "status": '"><b>'}, '"><b>'),
            Entry(4, 0.0, "ask", nasty, {"choices": [{"label": nasty}]}),
        ]
    )
    assert not [
        sign for sign in ("<script", "<img", "<b>", "${", "{{", "`", "\\") if sign in html.replace("<b>", "", 1)
    ]
