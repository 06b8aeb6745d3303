"""Natural commands: their files, the shipped sets, quality checks, the import of crowd CSVs, agreement, distance."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from affordagent.agent.cli import main
from affordagent.core.agreement import cohen_kappa, krippendorff_alpha
from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.evaluations.commands import distance
from affordagent.evaluations.commands.agreement import (
    Label,
    agreement,
    diversity,
    meaning_of,
    read_labels,
)
from affordagent.evaluations.commands.command import (
    Command,
    CommandGold,
    read_commands,
    shipped_commands,
    write_commands,
)
from affordagent.evaluations.commands.importing import Columns, anonymous, columns_of, import_csv, read_salt
from affordagent.evaluations.commands.quality import Screen, masked, plain, screened, text_faults
from affordagent.evaluations.commands.understood import understood
from affordagent.robot.sim.scene import sample_scene

MUG = CommandGold(categories=("mug",))


def command(text: str = "give me the mug", id: str = "c1", **fields) -> Command:
    return Command(**{"id": id, "text": text, "gold": MUG, "group": "mug", **fields})


# files


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(min_size=1, max_size=60).filter(lambda t: t.strip()),
    gold=st.sampled_from([MUG, CommandGold(objects=("mug_1",), colour="red", part="handle"), None, "ambiguous"]),
    language=st.sampled_from(["en", "de", "pt-BR", "zh-Hant"]),
)
def test_what_is_written_is_read(tmp_path_factory, text, gold, language):
    file = tmp_path_factory.mktemp("commands") / "c.jsonl"
    given_ = [
        command(text, gold=gold, language=language),
        command(id="c2", gold=gold, absent=("bowl",), notes="\u2028"),
    ]
    write_commands(file, given_)
    assert read_commands(file) == given_


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": "a"', "no JSON"),
        ('{"id": "a", "text": "x", "group": "g"}', "gold: Field required; must be"),
        ('{"id": "a", "text": "x", "gold": "perhaps", "group": "g"}', 'gold.*must be an object with "categories"'),
        ('{"id": "a", "text": "x", "gold": {"part": "handle"}, "group": "g"}', "give categories or objects"),
        ('{"id": "a", "text": " ", "gold": null, "group": "g"}', "blank"),
        ('{"id": "a b", "text": "x", "gold": null, "group": "g"}', "id 'a b'.*letters, digits"),
        ('{"id": "a", "text": "x", "gold": null, "group": "g", "scene": "mars:1"}', "mars:1.*scenes: bench"),
        ('{"id": "a", "text": "x", "gold": null, "group": "g", "wirter": "v"}', "wirter.*correct its name.*writer"),
        ('{"id": "first", "text": "x", "gold": null, "group": "g"}', "that of line 1 too"),
    ],
)
def test_a_wrong_line_is_named_with_its_field_and_mend(tmp_path, line, said):
    file = tmp_path / "c.jsonl"
    file.write_text('{"id": "first", "text": "x", "gold": null, "group": "g"}\n\n' + line + "\n")
    with pytest.raises(AffordAgentError, match=f"line 3.*{said}"):
        read_commands(file)


def test_what_is_expected_follows_from_the_gold():
    assert command().expected == "grasp"
    assert command(gold=None).expected == "refuse"
    assert command(gold="ambiguous").expected == "ask"
    with pytest.raises(ValidationError):
        command().text = "other"


def test_a_command_suits_scenes_that_hold_its_gold_and_nothing_that_is_to_be_absent():
    scene = sample_scene("twins", 3)  # an orange and a black mug, and three other things
    others = next(o.category for o in scene.objects if o.category != "mug")
    assert len(MUG.names_in(scene)) == 2
    black = CommandGold(categories=("mug",), colour="black")
    assert len(black.names_in(scene)) == 1
    assert black.names_in(scene) < MUG.names_in(scene)
    assert command().suits(scene)
    assert not command(absent=(others,)).suits(scene)
    assert not command(gold=CommandGold(categories=("banana",))).suits(scene)
    assert command(scene="twins:3").suits(scene)
    assert not command(scene="twins:4").suits(scene)
    assert command(gold=None).suits(scene)
    assert not command(gold=None, absent=("mug",)).suits(scene)


# the shipped sets


def test_the_shipped_sets_are_as_large_as_they_say_and_apart():
    dev, test = shipped_commands("dev"), shipped_commands("test")
    both = [*dev, *test]
    groups = defaultdict(list)
    for one in both:
        groups[one.group].append(one)
    assert len(both) >= 200
    assert len(groups) >= 40
    assert min(map(len, groups.values())) >= 3
    assert sum(one.expected != "grasp" for one in both) >= 30
    for shared in ("group", "writer", "id", "text"):
        assert not {getattr(c, shared) for c in dev} & {getattr(c, shared) for c in test}
    for members in groups.values():
        assert len({(c.scene, c.gold, c.absent) for c in members}) == 1
    meant = {name for c in both if isinstance(c.gold, CommandGold) for name in c.gold.categories}
    assert meant >= set(catalogue())


@pytest.mark.parametrize("split", ["dev", "test"])
def test_shipped_commands_of_one_scene_have_the_gold_they_say(split):
    bound = {one.group: one for one in shipped_commands(split) if one.simulated is not None}
    for one in bound.values():
        scene = sample_scene(*one.simulated)
        colours = [o.category for o in scene.objects]
        if one.expected == "ask":
            assert max(map(colours.count, colours)) == 2
        else:
            assert isinstance(one.gold, CommandGold)
            assert len(one.gold.names_in(scene)) == 1


def test_shipped_development_texts_are_fit_and_known_by_name():
    assert read_commands(Path("dev")) == shipped_commands("dev")
    assert screened(shipped_commands("dev")[::5])[1] == []


def test_lists_in_json_are_read_from_the_users_disk(tmp_path):
    file = tmp_path / "own.json"
    items = [
        {"id": 1, "text": "grab the pliers", "accept": ["pliers"], "hard": False, "note": ""},
        {"id": 2, "text": "what time is it", "accept": [], "hard": False, "note": ""},
        {"id": 3, "text": "that thing", "accept": [], "hard": True, "note": "needs clarification"},
    ]
    file.write_text(json.dumps({"commands": items}))
    pliers, nothing, asked = read_commands(file)
    assert pliers.gold == CommandGold(categories=("fixed joint pliers", "slip joint pliers", "locking pliers"))
    assert [c.expected for c in (pliers, nothing, asked)] == ["grasp", "refuse", "ask"]
    file.write_text(json.dumps({"questions": [{"verb": "cut", "command": "something to cut", "answer": "scissors"}]}))
    assert read_commands(file)[0].gold == CommandGold(categories=("scissors",))
    file.write_text('{"texts": []}')
    with pytest.raises(AffordAgentError, match="needs a list"):
        read_commands(file)


# quality


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("write to joe.doe@example.com and bring the mug", "e-mail"),
        ("call me on +44 20 7946 0958 when the mug is here", "phone"),
        ("the mug as on https://example.com/mug", "link"),
        ("<b>the mug</b> please", "markup"),
        ("the mug &amp; the spoon", "markup"),
        ("the mug\x07 please", "control"),
        ("ok", "too short"),
        ("123 :-) 456 ?!", "no words|too short"),
        ("Bitte gib mir die Tasse mit dem Henkel", "wrong language"),
        ("mug " * 200, "too long"),
    ],
)
def test_texts_that_are_not_fit(text, fault):
    import re

    assert any(re.search(fault, reason) for reason in text_faults(text))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("mug!!!", "en"),
        ("cn u reach me that mug, its handle pls", "en"),
        ("the 13 mm spanner, 2 of 3 from the left", "en"),
        ("Die Schere bitte, ich will Papier schneiden.", "de"),
        ("杯子给我", "zh"),
    ],
)
def test_texts_that_are_fit(text, language):
    assert text_faults(text, language) == ()


def test_copies_are_found_and_short_sayings_are_not_copies():
    screen = Screen(examples=["Could you hand me the thing to drink from?"])
    assert screen.reasons(command("mug please", "a", writer="w1")) == ()
    assert screen.reasons(command("the mug please", "b", writer="w2")) == ()
    assert "same text as a" in screen.reasons(command("Mug, please!", "c", writer="w3"))
    assert screen.reasons(command("could you hand me the thing to drink from", "d")) == ("copy of the example",)
    long = "I would love to drink some tea out of that lovely mug over there"
    assert screen.reasons(command(long, "e", writer="w4")) == ()
    assert screen.reasons(command(long + "!!", "f", writer="w5")) == ("same text as e",)
    assert screen.reasons(command(long + " now", "g", writer="w5")) == ("nearly the text of e",)
    hammer = {"gold": CommandGold(categories=("hammer",)), "group": "hammer"}
    assert screen.reasons(command(long + " now", "h", writer="w4", **hammer)) == ("pasted: the same writer's e",)


@pytest.mark.parametrize("text", ["nice survey", "I like turtles", "very interesting study thanks", "good robot"])
def test_answers_without_a_wish_are_off_task(text):
    assert any(reason.startswith("off-task") for reason in Screen().reasons(command(text)))


def test_a_description_is_off_task_and_a_hint_is_not():
    assert Screen().reasons(command("There is a mug and a hammer on a table")) == ("off-task: describes the picture",)
    assert Screen().reasons(command("The kettle has just boiled. One thing is missing.")) == ()
    assert Screen().reasons(command("good robot", gold=None)) == ()  # here nothing should be grasped


@settings(max_examples=40, deadline=None)
@given(st.from_regex(r"[a-z]{1,8}\.?[a-z]{1,8}@[a-z]{2,8}\.(com|org|co\.uk)", fullmatch=True))
def test_no_address_passes_or_is_kept(address):
    assert text_faults(f"the mug, {address} please")
    assert address not in masked(f"the mug, {address} please")


@given(st.text(max_size=80))
def test_plain_is_plain(text):
    assert plain(plain(text)) == plain(text)
    assert all(c.isalnum() or c == " " for c in plain(text))


# import


def write_csv(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_a_batch_of_mturk_becomes_commands_and_reasons(tmp_path):
    header = ["HITId", "WorkerId", "Input.scene", "Input.gold", "Input.part", "Input.example", "Answer.command"]
    shown = "I want the thing for hitting nails"
    rows = [
        ["h1", "A1ZZ", "mixed:3", "mug", "handle", shown, "grab my mug at the handle would you"],
        ["h2", "A1ZZ", "", "hammer", "", shown, "I want the thing for hitting nails."],
        ["h3", "B2YY", "", "hammer", "", shown, "got to put up this picture, need to whack a nail"],
        ["h4", "B2YY", "", "mug", "", shown, "got to put up this picture, need to whack a nail"],
        ["h5", "C3XX", "", "none", "", shown, "what a lovely day"],
        ["h6", "C3XX", "", "frobnicator", "", shown, "the frobnicator"],
        ["h7", "C3XX", "", "mug", "", shown, "reach me at jo@example.org for the mug"],
        ["h8", "C3XX", "", "mug", "", shown, ""],
    ]
    salt = read_salt(tmp_path / "salt")
    found = import_csv(write_csv(tmp_path / "batch.csv", header, rows), columns_of("mturk", []), salt)
    assert [c.id for c in found.commands] == ["batch-0001", "batch-0003", "batch-0005"]
    first = found.commands[0]
    assert first.gold == CommandGold(categories=("mug",), part="handle")
    assert first.scene == "mixed:3"
    assert first.writer == anonymous("A1ZZ", salt) != anonymous("B2YY", salt)
    assert found.commands[2].expected == "refuse"
    why = {row.row: " ".join(row.reasons) for row in found.rejected}
    assert sorted(why) == [2, 4, 6, 7, 8]
    assert why[2].startswith("copy of the example")
    assert "batch-0003" in why[4]
    assert "frobnicator" in why[6]
    assert "e-mail" in why[7]
    kept = json.dumps([c.model_dump(mode="json") for c in found.commands]) + str(found.rejected)
    assert not any(secret in kept for secret in ("A1ZZ", "B2YY", "C3XX", "jo@example.org"))
    assert found.reasons["copy of the example"] == 1


def test_an_export_of_qualtrics_has_three_header_lines(tmp_path):
    header = ["StartDate", "PROLIFIC_PID", "UserLanguage", "gold", "command"]
    rows = [
        ["Start Date", "PROLIFIC_PID", "User Language", "gold", "What would you say?"],
        ['{"ImportId":"startDate"}', '{"ImportId":"pid"}', "x", "x", "x"],
        ["2026-01-01", "5f00", "EN", "banana|ball", "toss me the yellow one"],
        ["2026-01-01", "5f01", "DE", "banana", "Gib mir bitte die Banane"],
    ]
    file = write_csv(tmp_path / "q.csv", header, rows)
    found = import_csv(file, columns_of("prolific", []), b"s" * 32)
    assert [c.language for c in found.commands] == ["en", "de"]
    assert found.commands[0].gold == CommandGold(categories=("banana", "ball"))
    assert found.rejected == []


def test_columns_and_salts_are_checked(tmp_path):
    assert columns_of("mturk", ["text=Q1", "part="]) == Columns(
        "Q1", "Input.gold", "WorkerId", None, "Input.colour", "Input.scene", "Input.group", absent="Input.absent",
        example="Input.example",
    )  # fmt: skip
    for platform, change in (("fiverr", []), ("mturk", ["txt=Q1"]), ("mturk", ["text"]), ("mturk", ["gold="])):
        with pytest.raises(AffordAgentError, match="fiverr|txt|text"):
            columns_of(platform, change)
    with pytest.raises(AffordAgentError, match="has no column 'Answer.command'; it has: a, b"):
        import_csv(write_csv(tmp_path / "x.csv", ["a", "b"], []), columns_of("mturk", []), b"s" * 32)
    salt = tmp_path / "salt"
    assert read_salt(salt) == read_salt(salt)
    assert salt.stat().st_mode & 0o077 == 0
    salt.write_text("hello")
    with pytest.raises(AffordAgentError, match="holds no salt"):
        read_salt(salt)


# agreement


def test_alpha_is_that_of_krippendorffs_example():
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), section C: nominal, 4 observers, 12 units."""
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    columns = zip(*(line.split() for line in observers), strict=True)
    assert krippendorff_alpha([[v for v in unit if v != "."] for unit in columns]) == pytest.approx(0.743, abs=5e-4)


def test_kappa_is_that_of_a_table():
    """20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: 0.4."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


def test_agreement_between_labellers_and_with_the_gold():
    texts = [command(id=f"c{i}", text=f"text {i}") for i in range(4)] + [command(id="n", gold=None)]
    said = {"a": ["mug", "mug", "mug|can", "ambiguous", "none"], "b": ["mug", "can", "mug|can", "ambiguous", "none"]}
    labels = [Label(c.id, who, means) for who, all_ in said.items() for c, means in zip(texts, all_, strict=True)]
    found = agreement(labels, texts)
    assert found.commands == 5
    assert found.raw == pytest.approx(0.8)
    assert found.with_gold == pytest.approx(7 / 10)
    assert 0.5 < found.alpha < 1
    assert found.interval[0] <= found.alpha <= found.interval[1]
    assert found.kappa["a b"] == pytest.approx(found.alpha, abs=0.1)
    assert krippendorff_alpha([["mug", "mug"], ["mug", "mug"]]) != 0  # nothing varies: not a number


def test_wordings_that_differ_are_more_diverse():
    same = diversity(["give me the mug", "give me the mug please", "give me a mug"])
    other = diversity(["my coffee is getting cold", "pass the mug", "what could one drink tea from?"])
    assert other.distinct_1 > same.distinct_1
    assert other.similarity < same.similarity


def test_labels_are_typed_in_the_terminal_and_gone_on_with(tmp_path, monkeypatch):
    file, labels = tmp_path / "c.jsonl", tmp_path / "labels.jsonl"
    write_commands(file, [command(f"text {i}", f"c{i}") for i in range(3)])
    line = ["commands", "label", str(file), "--labels", str(labels), "--labeller", "a"]
    for typed in (["spoon", "foo", "?", "q"], ["none"]):
        monkeypatch.setattr("builtins.input", lambda prompt, rest=typed: rest.pop(0))
        assert main(line) == 0
    assert sorted(label.means for label in read_labels(labels)) == ["ambiguous", "none", "utensil"]
    assert {label.command for label in read_labels(labels)} == {"c0", "c1", "c2"}


def test_what_is_typed_becomes_names_of_the_catalogue():
    assert meaning_of("pliers") == "fixed joint pliers|locking pliers|slip joint pliers"
    assert meaning_of("kettle|skillet") == "kettle|pot or pan"
    with pytest.raises(AffordAgentError, match="did you mean"):
        meaning_of("hamer")


# distance from the training style


def test_the_scale_belongs_to_todays_phrases():
    stored = json.loads(Path(distance.__file__).with_name(distance.SCALE_FILE).read_text())
    assert stored["digest"] == distance.scale().digest == distance._digest()


def test_trained_texts_are_at_zero_and_about_5_percent_of_held_out_ones_outside():
    trained = distance.training_texts()
    for found in distance.style_distances([trained[0], trained[-1]]):
        assert found.combined < 0.01
        assert not found.outside
    held_out = distance.style_distances(distance.held_out_texts())
    assert 0.03 < sum(d.outside for d in held_out) / len(held_out) < 0.07


def test_what_nobody_trains_on_is_outside():
    far = [
        "Poproszę wiertarkę.",
        "Now my coffee has gone cold again because the telephone rang, so before I heat it up I want to have the mug"
        " here next to me, and do take hold of the handle, dear.",
    ]
    near = ["give me the spatula please", "something to rinse the rice in"]
    assert all(d.outside for d in distance.style_distances(far))
    assert not any(d.outside for d in distance.style_distances(near))
    assert distance.style_distances([]) == []


def test_content_words_do_not_matter_to_the_form():
    assert distance.skeleton("Don't give me the mug!") == distance.skeleton("don't give me the hammer!")
    assert distance.skeleton("don't")[1] == "n't"


# language alone


def test_language_alone_is_scored_by_what_is_expected():
    from affordagent.agent.language.understand import understand

    texts = [
        command("hand me the mug", "a"),
        command("hand me the hammer", "b"),  # its gold is the mug
        command("Dame la taza, por favor", "c", language="es"),
        command("stop!", "d", gold=None),
        command("give me something", "e", gold="ambiguous"),
        command("the toaster", "f", gold=None, absent=("toaster",)),  # the scene decides
    ]
    found = understood(texts, understand)
    rates = {name: (of["k"], of["n"]) for name, of in found["rates"].items()}
    assert rates["grasp"] == (1, 3)
    assert rates["grasp, English, named"] == (1, 1)
    assert rates["grasp, English, not named"] == (0, 1)
    assert rates["grasp, other languages"] == (0, 1)
    assert rates["refuse"] == rates["ask"] == (1, 1)
    assert [miss["id"] for miss in found["misses"]] == ["b", "c"]


# the command line


def test_check_import_and_stats_on_the_command_line(tmp_path, capsys):
    file = write_csv(
        tmp_path / "b.csv", ["who", "said", "gold"], [["x", "hand me the mug, it is cold", "mug"], ["x", "ok", "mug"]]
    )
    out = tmp_path / "b.jsonl"
    line = ["commands", "import", str(file), "--out", str(out), "--salt", str(tmp_path / "salt")]
    columns = ["--column", "text=said", "--column", "gold=gold", "--column", "writer=who"]
    assert main([*line, *columns]) == 0
    assert "1 commands of 1 writers" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.rejected.jsonl").read_text())["reasons"] == ["too short: 2 letters, at least 3"]
    assert main([*line, *columns]) == 2  # never written over
    assert main(["commands", "check", str(out)]) == 0
    capsys.readouterr()
    assert main(["commands", "stats", "dev", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["commands"] == len(shipped_commands("dev"))
    assert found["distance"]["outside"]["n"] == found["by_language"]["en"]
