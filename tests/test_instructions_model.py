"""Instructions by a language model behind a server on loopback: form, cache, budget, pace, going on after a kill."""

import json
import time
from pathlib import Path

import pytest
from chat_service import chatting

from affordagent.agent.cli import main
from affordagent.agent.instructions.checks import Checker
from affordagent.agent.instructions.making import Kept, make, rejected_file
from affordagent.agent.instructions.sources import MOST_REPLY_TOKENS, PAIRS, Budget, Model, Pace
from affordagent.core.errors import AffordAgentError
from affordagent.core.jsonl import read_lines
from affordagent.prompts.loader import version

HARD = [
    ("the cream has to be stiff", "Pick up the whisk by its handle to whip the cream."),
    ("whisk the eggs", "Pick up the whisk by its handle."),  # names it
    ("turn these egg whites into snow for me", "Take the whisk by its handle; it makes egg whites stiff."),
    ("The cream has to be stiff!", "Pick up the whisk by its handle."),  # a duplicate
    ("my batter is full of lumps", "Hold it by its handle."),  # an answer without the name
]
USAGE = {"prompt_tokens": 700, "completion_tokens": 200, "total_tokens": 900}


def reply(pairs=HARD) -> str:
    return json.dumps({"pairs": [{"question": q, "answer": a} for q, a in pairs]})


def model(url: str, cache: Path, budget: Budget | None = None, **more) -> Model:
    return Model(url, "m", more.pop("style", "hard"), more.pop("seed", 0), cache, budget or Budget(), **more)


def taken(source: Model, n: int, file: Path | None = None, categories=("whisk",)) -> Kept:
    kept = Kept(file, {"seed": 0})
    for _ in make(source, dict.fromkeys(categories, n), kept, Checker(taken=kept.made.taken)):
        pass
    return kept


def test_what_is_asked_and_what_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "hard.jsonl"
    with chatting(reply(), reply([(f"stir the custard {w}", HARD[0][1]) for w in "abcde"])) as service:
        taken(model(service.url, tmp_path / "cache"), 2, file)
    assert [line["question"] for line in read_lines(file)] == [HARD[0][0], HARD[2][0]]
    assert [line["reason"] for line in read_lines(rejected_file(file))] == ["gives the name away: whisk"]
    asked = service.asked[0]
    assert asked["response_format"]["json_schema"]["strict"]
    assert asked["response_format"]["json_schema"]["schema"]["required"] == ["pairs"]
    assert asked["temperature"] == 1
    assert asked["max_tokens"] == MOST_REPLY_TOKENS
    prompt = service.prompt()
    assert prompt.count('{"question": ') == 5  # examples in context
    assert '"whisk"' in prompt
    assert "beater" in prompt
    assert "50 words" in prompt


def test_an_easy_one_is_asked_for_by_name(tmp_path: Path) -> None:
    with chatting(reply([("hand me the egg whisk for the cream", HARD[0][1])])) as service:
        kept = taken(model(service.url, tmp_path, style="easy"), 1)
    assert kept.made.taken[0].style == "easy"
    assert "egg whisk" in service.prompt()


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    with chatting(reply()) as service:
        first = taken(model(service.url, tmp_path), 2)
        again = taken(model(service.url, tmp_path), 2)
        assert len(service.asked) == 1
        taken(model(service.url, tmp_path, seed=1), 1)
        assert len(service.asked) == 2
        assert len({service.prompt(i) for i in range(2)}) == 2  # another voice or manner
    assert first.made.taken == again.made.taken
    stored = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert {entry["prompt"] for entry in stored} == {version("write_instructions_hard")}


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    file, cache = tmp_path / "a.jsonl", tmp_path / "cache"
    with chatting(reply()) as service:
        taken(model(service.url, cache), 1, file)
        taken(model(service.url, cache), 2, file)  # its second pair comes from the cache
        assert len(service.asked) == 1
    assert [line["question"] for line in read_lines(file)] == [HARD[0][0], HARD[2][0]]


def test_a_bad_form_is_asked_for_again_and_then_kept_as_rejected(tmp_path: Path) -> None:
    with chatting("here you are!", "no", reply()) as service:
        kept = taken(model(service.url, tmp_path), 1)
    assert len(service.asked) == 3
    assert kept.made.rejected == {"no pair": PAIRS}
    assert kept.made.taken[0].question == HARD[0][0]


def test_a_short_reply_and_a_lost_connection(tmp_path: Path) -> None:
    with chatting((503, {"message": "busy"}), reply(HARD[:1]), reply(HARD[2:3])) as service:
        kept = taken(model(service.url, tmp_path), 2)
    assert len(service.asked) == 3
    assert kept.made.rejected == {"no pair": PAIRS - 1}


def test_a_server_that_refuses_stops_it(tmp_path: Path) -> None:
    with chatting(reply(), key="right") as service, pytest.raises(AffordAgentError, match="AFFORDAGENT_LLM_KEY"):
        taken(model(service.url, tmp_path), 1)


def test_the_budget_is_kept(tmp_path: Path) -> None:
    budget = Budget(most_tokens=8000)
    different = [reply([(f"stir the custard for {word} guests of mine", HARD[0][1])]) for word in ("two", "six", "ten")]
    with chatting(*different, usage=USAGE) as service, pytest.raises(AffordAgentError, match="--most-tokens"):
        taken(model(service.url, tmp_path, budget), 3000)
    assert 900 <= budget.tokens <= 8000
    assert budget.tokens == 900 * len(service.asked)
    costly = Budget(most_cost=0.5, price=(100.0, 100.0))
    with pytest.raises(AffordAgentError, match="--most-cost"), costly.room_for(4000, 2000):
        pass
    costly.spend(1000, 2000)
    assert costly.cost == pytest.approx(0.3)
    with costly.room_for(1000, 0), pytest.raises(AffordAgentError, match="0.3000 of 0.5"), costly.room_for(1001, 0):
        pass  # what is under way counts too


def test_tokens_are_guessed_where_the_server_tells_of_none(tmp_path: Path) -> None:
    budget = Budget()
    with chatting(reply()) as service:
        taken(model(service.url, tmp_path, budget), 1)
        assert budget.asked > len(service.prompt()) / 4
    assert budget.told > len(reply()) / 4


def test_several_requests_at_once(tmp_path: Path) -> None:
    with chatting(reply()) as service:
        source = model(service.url, tmp_path, workers=3)
        source.prepare([("whisk", 0), ("whisk", 1), ("whisk", 5), ("mug", 0)])
    assert len(service.asked) == 3  # five pairs a request
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_the_pace_is_kept() -> None:
    pace, started = Pace(1200), time.monotonic()
    for _ in range(4):
        pace.wait()
    assert time.monotonic() - started >= 0.149
    Pace(None).wait()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["data", "instructions", "--n", "2", "--style", "hard", "--json", "--cache", str(tmp_path), "--unjudged"]
    with chatting(reply(), usage=USAGE) as service:
        code = main([*args, "--categories", "whisk", "--language", f"{service.url},m", "--price", "1", "2"])
    out, err = capsys.readouterr()
    assert code == 0
    assert [json.loads(line)["question"] for line in out.splitlines()] == [HARD[0][0], HARD[2][0]]
    assert "700 tokens asked, 200 answered, cost 0.0011" in err


def test_templates_are_nobodys_to_write(tmp_path: Path) -> None:
    with pytest.raises(AffordAgentError, match="published"):
        model("http://127.0.0.1:1/v1", tmp_path, style="template")
