"""The documentation: commands that exist, links that lead somewhere, a site that builds and fetches nothing."""

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from affordagent.agent.cli import build_parser
from affordagent.agent.studio import mermaid

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_/.]*|<.*>")
OURS = re.compile(r"(?:^|\s|/)(affordagent|python -m affordagent\.\S+|python scripts/\S+|make)\s")
SHELL = {"", "bash", "sh", "console", "text"}
FETCHED = re.compile(r"<(?:script|img|iframe|source|video)[^>]*\ssrc=.(?:https?:)?//|<link[^>]*\shref=.(?:https?:)?//")
PARSER = build_parser()
EXAMPLES = {int: "1", float: "0.5"}


def _commands(page: Path) -> Iterator[tuple[str, bool]]:
    """What a page calls of ours, and whether it is a whole command: lines of its code blocks, and words in backticks,
    which may leave out what is needed."""
    text = page.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    blocks = [body for language, body in FENCE.findall(text) if language in SHELL]
    blocks += re.findall(r"^ {4,}(affordagent .+)$", prose, re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        start = OURS.search(f"{line} ")
        if start is not None and re.fullmatch(r"[\w./=$ ]*", line[: start.start()]):  # nothing before it, or VARIABLE=1
            yield line[start.start(1) :], "..." not in line and " | " not in line
    for line in re.findall(r"`(affordagent [^`\n]+)`", prose):
        yield line, False


def _tokens(line: str) -> list[list[str]]:
    """The words of a line, without comments, redirections and brackets; one list for each of "a | b | c"."""
    line = re.split(r"(?:^|\s)#|\s(?:&&|;|>|2>|&)(?:\s|$)", line)[0]
    words = shlex.split(re.sub(r"\](?=\s|$)|(?<=\s)\[", "", line))
    if "|" not in words:
        return [words]
    first = words.index("|")
    if words[first + 1] in ("python", "jq", "head", "tail", "tee", "less"):  # a pipe
        return [words[:first]]
    last = max(i for i, word in enumerate(words) if word == "|")
    names = [words[first - 1], *(words[i + 1] for i in range(first, last + 1) if words[i] == "|")]
    return [[*words[: first - 1], name, *words[last + 2 :]] for name in names]


def _parser_of(words: list[str]) -> tuple[argparse.ArgumentParser, list[str]]:
    """The innermost parser that the words name, and the words after its name."""
    parser = PARSER
    while words and (choices := _subcommands(parser)).get(words[0]):
        parser, words = choices[words[0]], words[1:]
    return parser, words


def _subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return next((dict(a.choices) for a in parser._actions if isinstance(a, argparse._SubParsersAction)), {})


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Of the parser, and of those below it: a page may leave out which of them is meant."""
    below = [option for each in _subcommands(parser).values() for option in _options(each).items()]
    return dict(below) | parser._option_string_actions


def _filled(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Placeholders such as N or HOST in the place of numbers and choices, with something that fits there."""
    filled, options = list(words), _options(parser)
    for i in range(1, len(words)):
        option = options.get(words[i - 1])
        if option is None or not PLACEHOLDER.fullmatch(words[i]):
            continue
        filled[i] = str(next(iter(option.choices))) if option.choices else EXAMPLES.get(option.type, words[i])
    return filled


def _problem(words: list[str], whole: bool) -> str | None:
    """Why these words are no command of ours; None when they are one. whole: with all that it needs."""
    if words[:2] == ["python", "-m"]:
        return _module_problem(words[2], words[3:])
    if words[0] == "python":
        return None if (ROOT / words[1]).is_file() else f"no such script: {words[1]}"
    if words[0] == "make":
        targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        missing = {word for word in words[1:] if "=" not in word} - targets
        return f"no such target: {missing}" if missing else None
    parser, rest = _parser_of(words[1:])
    if parser.prog == "affordagent" and rest and not rest[0].startswith("-") and not PLACEHOLDER.fullmatch(rest[0]):
        return f"no such command: {rest[0]}"
    unknown = {word.split("=")[0] for word in rest if word.startswith("--")} - set(_options(parser))
    if unknown:
        return f"{parser.prog} has no {', '.join(sorted(unknown))}"
    if whole:
        try:
            parser.parse_args(_filled(parser, rest))
        except SystemExit as ended:
            return None if ended.code == 0 else "is not parsed"
    return None


def _module_problem(module: str, words: list[str]) -> str | None:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return f"no module {module}"
    here = Path(spec.origin)
    source = "".join(p.read_text() for p in [here, *here.parent.glob("*.py")])
    unknown = {w.split("=")[0] for w in words if w.startswith("--") and f'"{w.split("=")[0]}"' not in source}
    return f"{module} has no {unknown}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_commands_exist(page: Path, capsys: pytest.CaptureFixture[str]):
    for line, whole in _commands(page):
        for words in _tokens(line):
            problem = _problem(words, whole)
            assert problem is None, f"{line!r}: {problem} {capsys.readouterr().err}"


def test_wrong_commands_are_found():
    assert (
        _problem(["affordagent", "run", "a mug", "--sceen", "bench"], whole=False) == "affordagent run has no --sceen"
    )
    assert _problem(["affordagent", "rum"], whole=False) == "no such command: rum"
    assert _problem(["affordagent", "run"], whole=True) == "is not parsed"
    assert _problem(["affordagent", "run", "a mug", "--seed", "N"], whole=True) is None
    assert _problem(["make", "tea"], whole=True) == "no such target: {'tea'}"
    assert _problem(["python", "-m", "affordagent.evaluations.none"], whole=True) is not None
    assert _tokens("affordagent arm | recover --cell ur5:HOST  # a real arm") == [
        ["affordagent", "arm", "--cell", "ur5:HOST"],
        ["affordagent", "recover", "--cell", "ur5:HOST"],
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files(page: Path):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text):
        assert (page.parent / target).exists(), target


def test_diagrams_are_what_their_script_draws():
    spec = importlib.util.spec_from_file_location("docs_diagrams", ROOT / "scripts" / "docs_diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for draw in script.DIAGRAMS:
        drawn = (ROOT / "docs" / "images" / f"{draw.__name__}.svg").read_text(encoding="utf-8")
        assert drawn == draw(), "python scripts/docs_diagrams.py draws them anew"
    nodes = re.findall(r"^\t(\w+)\(\1\)", mermaid(), re.MULTILINE)
    assert len(nodes) > 9
    assert not {name for name in nodes if f">{name}<" not in script.pipeline()}


def test_the_site_builds_and_fetches_nothing(tmp_path: Path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert built.returncode == 0, built.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not FETCHED.findall(text), page
        assert 'class="mermaid"' not in text, page
        linked = re.findall(r'\shref="(?!https?:|mailto:|data:|/)([^"#?]+)', text)
        assert not [link for link in linked if not (page.parent / link).exists()], page
    assert 'id="grasp.none"' in (tmp_path / "troubleshooting.html").read_text(encoding="utf-8")
    assert "affordagent.core.types.RgbdFrame" in (tmp_path / "api" / "types.html").read_text(encoding="utf-8")
