"""Every failure code in the source has its section in the troubleshooting guide, and none has that cannot happen."""

import re
from pathlib import Path

import pytest

from affordagent.agent.cli import main
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError
from affordagent.core.failure_guide import GROUPS, PAGE, Guide, guide, guides, page

ROOT = Path(__file__).parents[1]
CODE = re.compile(rf'"((?:{"|".join(GROUPS)})\.[a-z_]+)"')
ROOMS = ("agent", "core", "graphs", "robot", "tools", "evaluations/causes")
NO_SETTINGS = {"depth_unit_m"}  # of camera.json
MEND = "give it meaning, evidence and mends in core/failures.json"


def _in_source() -> set[str]:
    found = {c for room in ROOMS for p in (ROOT / room).rglob("*.py") for c in CODE.findall(p.read_text())}
    return {c for c in found if not c.endswith((".json", ".png"))}


def test_the_guide_has_every_code_and_no_other():
    used = _in_source()
    assert len(used) > 80
    assert not used - set(guides()), MEND
    assert not set(guides()) - used, "take what nothing says out of core/failures.json"


def test_the_page_is_what_the_guide_says():
    mend = f"python -m affordagent.core.failure_guide > {PAGE}"
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(), mend


@pytest.mark.parametrize("this", guides().values(), ids=lambda g: g.code)
def test_every_section_says_all_three(this: Guide):
    for text in (this.meaning, this.evidence, *this.mends):
        assert len(text) > 10
        assert text.endswith((".", ").", '".')), text
    assert len(set(this.mends)) == len(this.mends) > 0
    assert f'<a id="{this.code}"></a>' in page()


def test_settings_that_are_named_exist():
    tables = Settings().model_dump()
    keys = set(tables) | {key for table in tables.values() if isinstance(table, dict) for key in table}
    mends = "\n".join(mend for each in guides().values() for mend in each.mends)
    named = set(re.findall(r"`([a-z]+_[a-z0-9_]+)`", mends)) - NO_SETTINGS
    assert len(named) > 15
    assert not named - keys


def test_evidence_that_is_named_exists():
    source = "\n".join(p.read_text() for room in ROOMS for p in (ROOT / room).rglob("*.py"))
    words = {word for each in guides().values() for word in re.findall(r"`([a-z][a-z0-9_]+)`", each.evidence)}
    assert len(words) > 50
    assert not {word for word in words if not re.search(rf"\b{word}\b", source)}


def test_an_unknown_code_names_the_nearest():
    with pytest.raises(AffordAgentError, match="grounding.which"):
        guide("grounding.wich")


def test_explain_prints_the_section(capsys):
    assert main(["explain", "depth.hole"]) == 0
    said = capsys.readouterr().out
    for text in (guide("depth.hole").meaning, guide("depth.hole").evidence, *guide("depth.hole").mends):
        assert text in said
    assert main(["explain", "no.such"]) == 2
