"""Instructions by the grammar: that they read well, name what they should, and are kept through a kill."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from affordagent.agent.cli import main
from affordagent.agent.instructions.attach import attached, chosen, counts
from affordagent.agent.instructions.checks import Checker
from affordagent.agent.instructions.kin import gloss, kin, leaks
from affordagent.agent.instructions.making import Kept, make, rejected_file, shared_out
from affordagent.agent.instructions.sources import Grammar
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.core.lexicon import lexicon
from affordagent.evaluations.commands.distance import skeleton
from affordagent.evaluations.instruction_leaks import BY_HAND, leaks_by_hand, leaks_by_wordnet
from affordagent.evaluations.instructions import NINETEEN
from affordagent.finetune.data.instructions.grammar import gerund, passive
from affordagent.finetune.data.instructions.pairs import MOST_WORDS, Instruction
from affordagent.finetune.data.instructions.uses import uses_of
from affordagent.finetune.data.questions import AFFORDANCE
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.table import read_samples, write_parquet

GOOD = Instruction("whisk", "hard", "the cream has to be stiff", "Pick up the whisk by its handle to whip the cream.")


ALL = tuple(catalogue())


def drafts(style, n, seed=3, categories=ALL):
    grammar = Grammar(style, seed)
    return [grammar.pair(categories[i % len(categories)], i // len(categories)) for i in range(n)]


# The grammar


@pytest.mark.parametrize(
    ("deed", "doing"),
    [
        ("whip the cream", "whipping the cream"),
        ("slice bread", "slicing bread"),
        ("beat it", "beating it"),
        ("tie a knot", "tying a knot"),
        ("fix the rail", "fixing the rail"),
        ("open a tin", "opening a tin"),
        ("wash the rice and +leave the water", "washing the rice and leaving the water"),
        ("see", "seeing"),
    ],
)
def test_verbs_take_their_ending(deed: str, doing: str) -> None:
    assert gerund(deed) == doing


def test_what_is_done_to_something_can_be_said_of_it() -> None:
    assert passive("whip <the cream> until stiff") == "the cream needs whipping until stiff"
    assert passive("beat <the egg whites>") == "the egg whites need beating"
    assert passive("eat <the cake>") is None  # "the cake needs eating" nobody says
    assert passive("whip <some cream>") is None
    assert passive("wash <the rice> and +leave the water") is None


def test_every_piece_of_every_thing_makes_whole_sentences() -> None:
    for style in ("template", "easy", "hard"):
        for pair in drafts(style, 600):
            for text in (pair.question, pair.answer):
                assert not re.search(r"[\[\]{}<>|+]|\s\s|\s[.,?!]|,[.?!]", text), text
                assert 2 <= len(text.split()) <= MOST_WORDS
            assert pair.answer[0].isupper()
            assert pair.answer.endswith(".")


def test_template_questions_are_the_published_ones() -> None:
    forms = [re.escape(text).replace(r"\{\}", "(.+)") for text in AFFORDANCE]
    for pair in drafts("template", 60):
        named = [m[1] for form in forms if (m := re.fullmatch(form, pair.question))]
        assert named
        assert named[0] in catalogue()[pair.category].names
        assert named[0] in pair.answer


def test_the_same_number_gives_the_same_pair() -> None:
    assert drafts("hard", 48) == drafts("hard", 48)
    assert drafts("hard", 48) != drafts("hard", 48, seed=4)
    assert Grammar("hard", 3).pair("mug", 5) == drafts("hard", 6, categories=("mug",))[5]


def test_it_is_no_handful_of_templates() -> None:
    texts = [pair.question for pair in drafts("hard", 200, categories=("whisk",))]
    assert len(set(texts)) > 190
    assert len({skeleton(text) for text in texts}) > 180


def test_things_that_nobody_wrote_about() -> None:
    assert Grammar("hard", 0).pair("umbrella", 0).category in lexicon()
    known = uses_of("xyzzy", "a thing used to drive nails; also for cutting wood")
    assert known is not None
    assert known.deeds == ("drive nails", "get on with cutting wood")
    assert "hand" in (gloss("spokeshave") or "")
    with pytest.raises(AffordAgentError, match="xyzzy"):
        Grammar("hard", 0).pair("xyzzy", 0)
    assert "xyzzy" in Grammar("template", 0).pair("xyzzy", 0).question


# What gives a name away


@pytest.mark.parametrize(
    ("category", "text", "gives_away"),
    [
        ("hammer", "I need a Hammer", True),
        ("hammer", "two hammers", True),
        ("hammer", "stop hammering", True),
        ("hammer", "the sledgehammer", True),
        ("hammer", "the hamer", True),  # mended by the language stage
        ("hammer", "bang the nails in", False),
        ("strainer", "strain the noodles", True),
        ("strainer", "sifting flour", True),
        ("screwdriver", "the screws are loose", True),
        ("screwdriver", "driven in", True),
        ("mug", "a teacup", True),
        ("mug", "cupboards", True),
        ("mug", "some hot coffee", False),
        ("pot or pan", "pancakes", True),
        ("pot or pan", "potatoes for a company", False),
        ("measuring cup", "the measured amount", True),
        ("ratchet", "by the handle", True),  # "ratchet handle" is a name of it
        ("slip joint pliers", "it is slippery", True),
        ("adjustable wrench", "adjusting it", True),
        ("utensil", "a spoonful", True),
        ("umbrella", "your brolly", True),
    ],
)
def test_what_gives_a_name_away(category: str, text: str, gives_away: bool) -> None:
    assert bool(leaks(text, category)) == gives_away


def test_kin_come_from_wordnet() -> None:
    assert {"strain", "sieve", "sift"} <= kin("strainer").words  # derived, a synonym, derived from it
    assert "stewpan" in kin("pot or pan").kinds  # a narrower kind
    assert "kettle" not in kin("utensil").kinds  # a thing of its own


def test_no_hard_question_gives_its_name_away() -> None:
    checker = Checker()
    taken = [p for p in drafts("hard", 500, seed=12, categories=NINETEEN) if checker.rejected(p) is None]
    assert len(taken) > 480
    assert not [(p, found) for p in taken if (found := leaks_by_hand(p.question, p.category))]
    assert set(BY_HAND) == set(catalogue())


def test_no_hard_question_gives_its_name_away_by_wordnets_files() -> None:
    folder = Path("/usr/share/wordnet")
    if not (folder / "data.noun").is_file():
        pytest.skip("WordNet's files are not on this machine (Debian's wordnet-base)")
    checker = Checker()
    taken = [p for p in drafts("hard", 300, seed=13, categories=NINETEEN) if checker.rejected(p) is None]
    assert not [(p, f) for p in taken if (f := leaks_by_wordnet(p.question, p.category, folder))]


# Checks


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (GOOD, None),
        (replace(GOOD, question="whisk the cream"), "gives the name away: whisk"),
        (replace(GOOD, question="beat the eggs"), "gives the name away: beat"),
        (replace(GOOD, question="stiff"), "question too short"),
        (replace(GOOD, question="very " * 50 + "stiff cream"), "question too long"),
        (replace(GOOD, answer="whisk " * 51), "answer too long"),
        (replace(GOOD, answer="Pick it up by its handle."), "answer does not name the thing"),
        (replace(GOOD, answer="It is the whisk."), "answer says no action"),
        (replace(GOOD, question="the cream\nhas to be stiff"), "question holds control characters"),
        (replace(GOOD, question="Die Sahne muss steif werden"), "question is no English"),
        (replace(GOOD, question="slice the bread for me"), "means knife"),
        (replace(GOOD, question="what time is it in the kitchen"), "not a request"),
        (replace(GOOD, style="easy"), "question does not name the thing"),
        (replace(GOOD, style="easy", question="stiff cream with the egg beater"), None),
    ],
)
def test_reasons(pair: Instruction, reason: str | None) -> None:
    found = Checker(NINETEEN).rejected(pair)
    assert found == reason if reason is None else found is not None and found.startswith(reason)


def test_copies_are_found() -> None:
    checker = Checker(taken=[GOOD])
    assert checker.rejected(replace(GOOD, question="The cream has to be stiff!")) == "duplicate"
    assert (checker.rejected(replace(GOOD, question="the cream had to be stiff")) or "").startswith("near-duplicate")
    assert checker.rejected(replace(GOOD, question="turn these egg whites into snow for me")) is None
    assert checker.rejected(replace(GOOD, style="template", question="What is the affordance map of whisk?")) is None


# Making them


class Repeating(Grammar):
    """Every third draft is an old one."""

    def pair(self, category: str, number: int) -> Instruction:
        return super().pair(category, 0 if (number + len(category)) % 3 == 2 else number)


class Silent(Grammar):
    """A model that never answers in the form."""

    def pair(self, category: str, number: int) -> str:  # type: ignore[override]
        return "no JSON object in it"


def made(file: Path | None, n: int = 40, stop_after: int | None = None) -> list[Instruction]:
    kept = Kept(file, {"style": "hard", "seed": 5})
    checker = Checker(taken=kept.made.taken)
    for count, _ in enumerate(make(Repeating("hard", 5), shared_out(n, ["mug", "knife", "whisk"]), kept, checker), 1):
        if count == stop_after:
            break
    return kept.made.taken


def test_after_a_kill_it_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    whole = made(tmp_path / "whole.jsonl")
    file = tmp_path / "killed.jsonl"
    for stop in (1, 1, 5, 9, 2):
        made(file, stop_after=stop)
        with file.open("ab") as out:
            out.write(b'{"category": "mug", "sty')  # half a line, as a kill leaves it
    assert made(file) == whole
    assert file.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    rejected = [json.loads(line) for line in rejected_file(file).read_text().splitlines()]
    assert rejected == [json.loads(line) for line in rejected_file(tmp_path / "whole.jsonl").read_text().splitlines()]
    assert all(line["reason"] for line in rejected)
    assert [p.category for p in whole].count("mug") == 14


def test_other_settings_are_not_mixed_in(tmp_path: Path) -> None:
    made(tmp_path / "a.jsonl", 3)
    with pytest.raises(AffordAgentError, match="seed 5, now 6"):
        Kept(tmp_path / "a.jsonl", {"style": "hard", "seed": 6})


def test_a_category_without_hope_is_given_up() -> None:
    kept = Kept(None, {})
    assert list(make(Silent("hard", 0), {"mug": 2}, kept, Checker())) == []
    assert kept.made.given_up == {"mug": 2}
    assert kept.made.rejected == {"no pair": 200}


# The command


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, list[dict[str, str]], str]:
    code = main(["data", "instructions", *args])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()] if "--json" in args else [], err


def test_one_object_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "hard.jsonl"
    args = ("--style", "hard", "--offline", "--json", "--out", str(file), "--categories", "mug", "pot_or_pan", "knife")
    code, lines, err = run(capsys, "--n", "7", *args)
    assert code == 0
    assert [list(line) for line in lines] == [["category", "style", "question", "answer"]] * 7
    assert [line["category"] for line in lines][:4] == ["mug", "pot or pan", "knife", "mug"]
    assert "7 pairs" in err
    again = run(capsys, "--n", "9", *args)[1]
    assert again[:7] == lines
    assert len(again) == 9 == len(file.read_text().splitlines())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--n", "2", "--style", "hard"), "--offline"),
        (("--n", "0", "--style", "hard", "--offline"), "--n 0"),
        (("--n", "2", "--style", "hard", "--language", "gpt"), "URL,MODEL"),
        (("--n", "2", "--style", "hard", "--offline", "--most-cost", "3"), "--price"),
        (("--n", "2", "--style", "hard", "--offline", "--for", "a.parquet"), "--out"),
        (("--n", "2", "--style", "hard", "--offline", "--categories", "xyzzy"), "xyzzy"),
    ],
)
def test_mistakes_are_named(capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2
    assert message in err


def rows(folder: Path) -> list[Sample]:
    row = Sample(image=str(folder / "a.png"), text="?", mask=str(folder / "m.png"), category="mug", source="mine")
    return [
        row,
        replace(row, category="pot_or_pan"),
        replace(row, image=str(folder / "b.png"), category="knife"),
        replace(row, image=str(folder / "c.png"), mask=None),  # a negative
        replace(row, image=str(folder / "d.png"), kind="hard"),  # has an instruction already
    ]


def test_rows_get_their_instructions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, out = tmp_path / "rows.parquet", tmp_path / "hard.parquet"
    write_parquet(rows(tmp_path), source)
    args = ("--n", "9", "--style", "hard", "--offline", "--for", str(source), "--out", str(out))
    assert run(capsys, *args)[0] == 0
    given = read_samples(out)
    assert sorted(sample.category or "" for sample in given) == ["knife", "mug", "pot_or_pan"]
    for sample in given:
        assert sample.kind == "hard"
        assert sample.source == "mine"
        assert not leaks(sample.text, (sample.category or "").replace("_", " "))
        assert sample.answer


def test_a_hard_one_is_not_given_where_another_thing_fits_better(tmp_path: Path) -> None:
    asked = chosen(rows(tmp_path), 9, seed=0)
    assert counts(asked) == {"knife": 1, "mug": 1, "pot or pan": 1}
    frying = Instruction("mug", "hard", "I want to fry two eggs in butter", "Take the mug by its handle.")
    drinking = replace(frying, question="I would love some hot coffee to drink")
    assert [row.text for row in attached(asked, [frying, drinking])] == [drinking.question]
    assert asdict(next(iter(attached(asked, [drinking]))))["kind"] == "hard"


def test_the_table_is_made_from_wordnets_files(tmp_path: Path) -> None:
    """Two things and the verb that one of them comes from, in the format of wndb(5WN)."""
    from affordagent.agent.instructions.wordnet import relatives, things
    from affordagent.agent.language.wordnet import Nouns

    nouns = (
        "  1 licence\n"
        "00000002 06 n 01 instrumentality 0 000 | a means  \n"
        '00000003 06 n 02 strainer 0 wire_net 0 002 @ 00000002 n 0000 + 00000009 v 0102 | that strains; "so"  \n'
        "00000004 06 n 01 tea_strainer 0 001 @ 00000003 n 0000 | for tea  \n"
    )
    (tmp_path / "data.noun").write_text(nouns)
    (tmp_path / "data.verb").write_text("00000009 30 v 02 filter 0 strain 1 000 | to strain  \n")
    for name in ("data.adj", "data.adv"):
        (tmp_path / name).write_text("")
    found = things(Nouns(tmp_path))
    assert [thing["words"] for thing in found] == [["strainer", "wire net"], ["tea strainer"]]
    assert found[1]["above"] == [0]
    assert found[0]["gloss"] == "that strains"
    assert relatives(tmp_path, {"strainer"}) == {"strainer": ["strain"]}
    assert np.all([len(thing["words"]) for thing in found])
