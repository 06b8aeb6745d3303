"""What things are for, by WordNet; and sentences that name a thing without asking for it."""

import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.language.knowledge import knowledge, served
from affordagent.agent.language.rank import rank
from affordagent.agent.language.remarks import is_about, is_told_not_to
from affordagent.agent.language.understand import understand
from affordagent.agent.language.wordnet import Nouns

HELD_OUT = Path(__file__).parents[1] / "evaluations" / "language_held_out.json"


@pytest.mark.parametrize(
    ("verb", "best", "others"),
    [
        ("sweep", "broom", ["pear", "wine glass", "pillow"]),
        ("sleep on", "pillow", ["broom", "pear", "padlock"]),
        ("drink from", "wine glass", ["broom", "marker", "pillow"]),
        ("drink from", "blue goblet", ["broom", "marker", "pillow"]),  # a name that nothing here was written about
    ],
)
def test_a_deed_finds_its_thing(verb: str, best: str, others: list[str]) -> None:
    ranked = rank(f"hand me something to {verb}", [*others, best])
    assert ranked[0][0] == best
    assert {name for name, _ in ranked} == {best, *others}


def test_a_name_comes_before_any_use() -> None:
    assert rank("hand me the pear", ["knife", "pear"])[0][0] == "pear"


def test_names_are_looked_up_by_their_last_words() -> None:
    known = knowledge()
    assert known.row_of("tuna fish can") == known.row_of("can")
    assert known.row_of("cups") == known.row_of("cup")
    assert known.row_of("xyzzy") is None
    assert np.isfinite(served("something to cut", ["xyzzy", "knife", ""])).all()


def test_the_table_is_whole_small_and_licensed() -> None:
    folder = files("affordagent.agent.language")
    assert len(folder.joinpath("knowledge.npz").read_bytes()) < 5e6
    assert "Princeton University" in folder.joinpath("WORDNET_LICENCE.txt").read_text()
    known = knowledge()
    assert max(known.rows.values()) + 1 == len(known.meanings)
    assert np.abs(known.meanings).max(1).min() > 0


def test_wordnets_files_are_read(tmp_path: Path) -> None:
    """A word of three synsets in the format of wndb(5WN)."""
    (tmp_path / "data.noun").write_text(
        "  1 licence\n"
        "00000001 03 n 01 entity 0 000 | that which is\n"
        "00000002 06 n 02 instrumentality 0 instrumentation 0 001 @ 00000001 n 0000 | a means  \n"
        '00000003 06 n 01 tea_can 0 002 @ 00000002 n 0000 ~ 00000001 n 0000 | holds tea; keeps it dry; "tea"  \n'
    )
    (tmp_path / "index.noun").write_text("  1 licence\ntea_can n 1 2 @ ~ 1 0 00000003\n")
    nouns = Nouns(tmp_path)
    assert nouns.thing("tea can") == "00000003"
    assert nouns.synsets["00000003"].definition == "holds tea; keeps it dry"
    assert nouns.above("00000003") == ["00000002", "00000001"]
    assert nouns.kinds("00000003") == []  # both are too vague to say anything
    assert nouns.is_handy("00000003")


@pytest.mark.parametrize("text", ["do not lift the pan", "don't take the bottle, please", "i no longer need the drill"])
def test_told_not_to(text: str) -> None:
    assert is_told_not_to(text)
    assert not understand(text).wants_motion


@pytest.mark.parametrize(
    "text", ["don't drop it, but hand me the glass bottle", "not the fork, the knife", "don't forget the mug"]
)
def test_told_to_after_all(text: str) -> None:
    assert not is_told_not_to(text)
    assert understand(text).wants_motion


@pytest.mark.parametrize(
    "text",
    ["the pan was cheap", "he always eats a banana at noon", "how do scissors work", "how many spoons do we have?"]
    + ["i lent the hammer to anna last week", "you dropped the spoon", "do you notice the bottle?"],
)
def test_a_remark_or_a_question_moves_nothing(text: str) -> None:
    assert is_about(text)
    assert not understand(text).wants_motion


@pytest.mark.parametrize(
    "text",
    [
        "the slotted screwdriver",
        "the mug on the left",
        "is there a hammer? i need one",
        "i left my mug over there, bring it",
    ]
    + ["put the mug on the tray", "the hammer on the used towel, please", "can you see the mug? pick it up"],
)
def test_a_wish_stays_one(text: str) -> None:
    query = understand(text)
    assert query.wants_motion
    assert not query.needs_clarification


def test_the_held_out_commands_are_as_described() -> None:
    commands = json.loads(HELD_OUT.read_text())["commands"]
    assert {kind: sum(c["kind"] == kind for c in commands) for kind in ("named", "functional", "abstain")} == {
        "named": 60,
        "functional": 60,
        "abstain": 60,
    }
    assert len({c["text"] for c in commands}) == 180
