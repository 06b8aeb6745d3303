"""What a turn of a talk asks for, given what was said and taken before."""

import pytest

from affordagent.agent.language.understand import understand
from affordagent.agent.talk.reading import read_turn
from affordagent.agent.talk.replies import after_no, chosen, is_no, is_yes

CHOICES = [
    {"label": "the red one, on the left", "at_m": [0.4, 0.2, 0.1], "box": [0, 0, 9, 9]},
    {"label": "the blue one, in the middle", "at_m": [0.5, 0.0, 0.1], "box": [9, 0, 18, 9]},
    {"label": "the red one, on the right", "at_m": [0.4, -0.2, 0.1], "box": [18, 0, 27, 9]},
]


def thing(text, at_m=(0.5, 0.1, 0.05)):
    return {"query": understand(text).model_dump(mode="json"), "run": "r", "at_m": list(at_m), "ruled_out": []}


def acts(text, **state):
    return read_turn(text, state, understand)


@pytest.mark.parametrize("text", ["yes", "Yes please", "ok, go on", "sure", "do it", "yep!", "y"])
def test_a_yes(text):
    assert is_yes(text)
    assert not is_no(text)


@pytest.mark.parametrize(
    "text", ["", "no", "No, by the handle", "never mind", "yesterday was better", "not yes", "maybe", "stop", "why?"]
)
def test_only_a_yes_is_a_yes(text):
    assert not is_yes(text)


def test_what_a_no_wants_instead():
    assert after_no("no, by the handle") == "by the handle"
    assert after_no("No.") == ""


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("2", 1), ("the second one", 1), ("number three", 2), ("the last one", 2), ("the one on the left", 0),
        ("right", 2), ("the blue one", 1), ("the middle one please", 1), ("the red one", None), ("7", None),
        ("the green one", None),
    ],
)  # fmt: skip
def test_which_of_the_choices(text, index):
    assert chosen(text, CHOICES) == index


def test_the_answer_to_which():
    query = understand("give me the mug").model_dump(mode="json")
    asked = {"kind": "which", "text": "?", "query": query, "choices": CHOICES, "acts": []}
    (act,) = acts("the blue one", asked=asked)
    assert act["do"] == "grasp"
    assert act["query"]["at_m"] == CHOICES[1]["at_m"]
    assert act["query"]["intent"] == "hand_over"
    (act,) = acts("never mind", asked=asked)
    assert act["do"] == "say"
    (act,) = acts("pick up the hammer instead", asked=asked)  # a turn of its own
    assert act["query"]["category"] == "hammer"
    assert act["query"]["at_m"] is None


def test_the_answer_to_what():
    (asking,) = acts("bring it to me")
    assert asking["ask"]["kind"] == "what"
    (act,) = acts("the mug", asked=asking["ask"])
    assert act["do"] == "grasp"
    assert act["query"]["category"] == "mug"


def test_by_another_part():
    (act,) = acts("no, by the rim", thing=thing("pick up the mug by its handle"))
    assert (act["do"], act["query"]["category"], act["query"]["part"]) == ("grasp", "mug", "rim")
    assert act["query"]["at_m"] == [0.5, 0.1, 0.05]  # the very same mug


def test_the_other_one():
    (act,) = acts("the other one", thing=thing("pick up the red mug") | {"ruled_out": [[0.3, 0.0, 0.05]]})
    assert act["query"]["not_at_m"] == [[0.3, 0.0, 0.05], [0.5, 0.1, 0.05]]
    assert act["query"]["attributes"] == {}
    back, act = acts("not that one, the other one", thing=None, held=thing("pick up the mug"))
    assert back["query"]["destination"]["relation"] == "back"
    assert act["do"] == "grasp"


def test_one_of_another_colour_or_place():
    (act,) = acts("the red one", thing=thing("pick up the blue mug"))
    assert act["query"]["attributes"]["colour"] == "red"
    (act,) = acts("the one on the left", thing=thing("pick up the mug"))
    assert act["query"]["attributes"]["position"] == "left"


@pytest.mark.parametrize("text", ["put it back", "put that back please"])
def test_put_it_back(text):
    (act,) = acts(text, held=thing("pick up the mug"))
    assert (act["do"], act["query"]["destination"]["relation"]) == ("deliver", "back")
    (act,) = acts(text, thing=thing("pick up the mug"))
    assert act == {"do": "say", "text": "I hold nothing."}


def test_what_is_held_goes_elsewhere():
    held = thing("pick up the mug")
    (act,) = acts("put it in the box", held=held)
    assert (act["do"], act["query"]["destination"]["relation"], act["query"]["category"]) == ("deliver", "in", "mug")
    (act,) = acts("give it to me", held=held)
    assert (act["do"], act["query"]["intent"]) == ("deliver", "hand_over")
    (act,) = acts("put it down", held=held)
    assert act["query"]["destination"]["words"] == "table"


def test_what_is_not_held_is_taken_first():
    (act,) = acts("put it in the box", thing=thing("pick up the mug"))
    assert (act["do"], act["query"]["intent"], act["query"]["at_m"]) == ("grasp", "place", [0.5, 0.1, 0.05])


def test_a_new_wish_while_the_hand_is_full_is_asked_about():
    (act,) = acts("pick up the hammer", held=thing("pick up the mug"))
    assert act["ask"]["kind"] == "whether"
    back, grasp = acts("yes", asked=act["ask"], held=thing("pick up the mug"))
    assert back["query"]["destination"]["relation"] == "back"
    assert grasp["query"]["category"] == "hammer"
    (left,) = acts("no", asked=act["ask"], held=thing("pick up the mug"))
    assert left["do"] == "say"


def test_several_things():
    (act,) = acts("pick up the mug and the spatula")
    assert act["ask"]["kind"] == "whether"
    (plan,) = act["ask"]["acts"]
    assert [a["query"]["intent"] for a in plan["steps"]] == ["hand_over", "hand_over"]
    (plan,) = acts("hand me the mug and the spatula")
    assert (plan["do"], plan["at"]) == ("plan", 0)
    first, second = plan["steps"]
    assert (first["query"]["category"], second["query"]["category"]) == ("mug", "spatula")
    assert "then: spatula" not in first["query"]["constraints"]


@pytest.mark.parametrize("text", ["stop", "what is a ratchet used for?", "thank you", "hello"])
def test_what_moves_nothing(text):
    (act,) = acts(text)
    assert act["do"] == "say"
    assert "ask" not in act


def test_the_other_one_of_nothing():
    (act,) = acts("the other one")
    assert act["ask"]["kind"] == "what"
