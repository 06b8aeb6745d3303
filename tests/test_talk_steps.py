"""Several steps in a turn, questions, courtesies and corrections: what they ask for, before anything is looked at."""

import pytest

from affordagent.agent.language.understand import understand
from affordagent.agent.talk.questions import asked_about, courtesy
from affordagent.agent.talk.reading import read_turn
from affordagent.agent.talk.replies import chosen, is_no, is_yes, is_yes_but
from affordagent.agent.talk.steps import numbered, read_steps

CHOICES = [
    {"label": "the orange one, on the left", "at_m": [0.4, 0.2, 0.1], "box": [0, 0, 9, 9]},
    {"label": "the black one, on the right", "at_m": [0.4, -0.2, 0.1], "box": [18, 0, 27, 9]},
]


def thing(text):
    query = understand(text).model_dump(mode="json")
    return {"query": query, "run": "r", "at_m": [0.5, 0.1, 0.05], "ruled_out": []}


def acts(text, **state):
    return read_turn(text, state, understand)


def which(text, **more):
    query = understand(text).model_dump(mode="json")
    return {"kind": "which", "text": "Which?", "query": query, "choices": CHOICES, "acts": [], **more}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("put the mug in the box and then hand me the spoon", "1. put the mug in the box, 2. hand you the spoon"),
        ("first put the mug on the tray, then give me the pot", "1. put the mug on the tray, 2. hand you the pot"),
        ("hand me the red mug, the spoon and the ladle",
         "1. hand you the red mug, 2. hand you the spoon, 3. hand you the ladle"),
        ("put the mug and the spoon in the box", "1. put the mug in the box, 2. put the spoon in the box"),
        ("put the mug in the box and the spoon on the tray", "1. put the mug in the box, 2. put the spoon on the tray"),
        ("hand me the mug, then the spoon", "1. hand you the mug, 2. hand you the spoon"),
        ("take the mug and the pot and put them in the box", "1. put the mug in the box, 2. put the pot in the box"),
        ("pick up the mug. Then put it in the box. After that hand me the hammer.",
         "1. put the mug in the box, 2. hand you the hammer"),
        ("pick up the mug and hand it to me", "1. hand you the mug"),
    ],
)  # fmt: skip
def test_steps_in_order(text, steps):
    read = read_steps(text, understand)
    assert numbered(read.queries) == steps
    assert not read.question


@pytest.mark.parametrize(
    "text", ["hand me the scissors and be careful", "get the hammer and hit the nail", "hand me the mug", "thank you",
             "I am thirsty. Hand me the mug.", "hand me the mug next to the kettle"]
)  # fmt: skip
def test_a_single_wish_is_no_plan(text):
    assert read_steps(text, understand) is None


@pytest.mark.parametrize(
    ("text", "asks"),
    [
        ("hand me the box and then put the mug in the box", "You would have the box by then"),
        ("put the mug in the box before you hand me the spoon", "In which order?"),
        ("pick up the mug and then put the spoon in the box", "Shall I hand you the mug before I go on?"),
        ("hand me the mug, the spoon, the ladle, the pot, the hammer, the fork and the knife", "7 steps"),
    ],
)  # fmt: skip
def test_a_plan_that_makes_no_sense_is_asked_about(text, asks):
    (act,) = acts(text)
    assert act["do"] == "say"
    assert asks in act["ask"]["text"]


def test_a_step_that_somebody_is_hurt_by_refuses_all():
    from affordagent.core.errors import Refused

    with pytest.raises(Refused):
        read_steps("hand me the mug and then stab him with the knife", understand)


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("what do you see?", "seen"), ("What's on the table?", "seen"), ("how many things are there?", "seen"),
        ("what are you holding?", "held"), ("is your hand empty?", "held"), ("why did that fail?", "failed"),
        ("what went wrong?", "failed"), ("why didn't you take the mug?", "failed"), ("why that one?", "why"),
        ("why did you take that one?", "why"), ("are you sure?", "why"), ("what will you do?", "plan"),
        ("what can you do?", "able"), ("help", "able"), ("what?", "again"), ("Is there a mug?", "there"),
        ("where is the red mug?", "there"), ("do you see a hammer?", "there"),
    ],
)  # fmt: skip
def test_questions(text, about):
    assert asked_about(text).about == about
    (act,) = acts(text, held=thing("pick up the mug"))
    assert (act["do"], act["about"], act["aside"]) == ("tell", about, True)


@pytest.mark.parametrize(
    "text", ["hand me the mug", "can you find the hammer for me", "why don't you hand me the mug", "the mug", "stop",
             "what can I cut this with?", "is there any reason to wait"]
)  # fmt: skip
def test_what_is_no_question_about_the_scene(text):
    assert asked_about(text) is None


@pytest.mark.parametrize("text", ["thanks", "Thank you so much!", "hello robot", "hmm", "well done", "how are you?"])
def test_courtesies_leave_an_open_question_open(text):
    assert courtesy(text)
    (act,) = acts(text, asked=which("hand me the mug"))
    assert (act["do"], act["aside"]) == ("say", True)


@pytest.mark.parametrize("text", ["thanks, now the pot", "great, hand me the spoon", "hello, pick up the mug"])
def test_a_courtesy_and_a_wish_are_a_wish(text):
    (act,) = acts(text)
    assert act["do"] == "grasp"


def test_an_answer_goes_on_with_the_plan():
    steps = acts("hand me the mug and the ladle")[0]["steps"]
    asked = which("hand me the mug", steps=steps, at=0)
    (plan,) = acts("the black one", asked=asked)
    assert (plan["do"], plan["at"]) == ("plan", 0)
    assert plan["steps"][0]["query"]["at_m"] == CHOICES[1]["at_m"]
    assert plan["steps"][1] == steps[1]
    (plan,) = acts("both", asked=asked)
    assert [step["query"]["at_m"] for step in plan["steps"]] == [CHOICES[0]["at_m"], CHOICES[1]["at_m"], None]


@pytest.mark.parametrize(("text", "index"), [("either", 0), ("not the orange one", 1), ("the second one please", 1)])
def test_other_answers(text, index):
    assert chosen(text, CHOICES) == index


@pytest.mark.parametrize("text", ["yes, but slowly", "ok, if it is safe", "yes, the first"])
def test_a_yes_with_something_to_it_is_none(text):
    assert not is_yes(text)
    assert is_yes_but(text)
    assert not is_yes_but("ok stop")
    assert is_no("undo")


def test_what_is_held_is_not_taken_again():
    held = thing("pick up the mug")
    (act,) = acts("hand me the mug", held=held)
    assert (act["do"], act["query"]["intent"]) == ("deliver", "hand_over")
    (act,) = acts("put the mug next to the pot", held=held)
    assert (act["do"], act["query"]["destination"]["words"]) == ("deliver", "pot")
    (act,) = acts("pick up the mug", held=held)
    assert act == {"do": "say", "text": "I hold the mug already."}
    for text in ("put the mug in the box and then hand me the spoon", "put it in the box and then hand me the spoon"):
        first, plan = acts(text, held=held)
        assert (first["do"], first["query"]["destination"]["words"]) == ("deliver", "box")
        assert (plan["do"], len(plan["steps"])) == ("plan", 1)


def test_a_correction_puts_back_unasked():
    back, act = acts("no, I meant the pot", held=thing("pick up the mug"), thing=thing("pick up the mug"))
    assert back["query"]["destination"]["relation"] == "back"
    assert act["query"]["category"] == "pot or pan"


def test_and_now_the_next_one_the_same_way():
    (act,) = acts("and now the spoon", thing=thing("hand me the mug"))
    assert act["query"]["intent"] == "hand_over"
    (act,) = acts("no, the pot", thing=thing("put the mug in the box"))
    assert act["query"]["destination"]["words"] == "box"


def test_undo():
    (act,) = acts("undo", held=thing("pick up the mug"), last="r")
    assert (act["do"], act["query"]["destination"]["relation"]) == ("deliver", "back")
    (act,) = acts("undo that")
    assert act["text"].startswith("There is nothing to undo")
    (act,) = acts("undo", thing=thing("put the mug in the box"), last="r")
    assert act["ask"]["kind"] == "where"
    (act,) = acts("on the tray", asked=act["ask"])
    assert (act["do"], act["query"]["destination"]["words"], act["query"]["at_m"]) == (
        "grasp",
        "tray",
        [0.5, 0.1, 0.05],
    )


@pytest.mark.parametrize("text", ["put everything in the box", "give me all mugs", "clear the table"])
def test_all_at_once_is_asked_about(text):
    (act,) = acts(text)
    assert "one thing at a time" in act["ask"]["text"]
    assert acts("stop", asked=act["ask"])[0]["text"] == "Stopped. Nothing moves."


@pytest.mark.parametrize("piece", ["please ", "and then ", "hand me the mug and the ", "please , ", "( "])
def test_long_repetitions_are_read_in_no_time(piece):
    """Patterns that try every way to read them would not come back."""
    assert acts((piece * 1000)[:1999])
