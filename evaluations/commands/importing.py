"""From a crowd platform's CSV to commands: columns mapped, writers made anonymous, quality checked.

Nothing that tells a person is kept: the platform's worker id goes through a keyed hash (BLAKE2b) with a salt that stays
in a file of yours, so that one person keeps one id over several batches and nobody else can look it up; texts with
e-mail addresses, phone numbers or links are rejected and kept only masked.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import AffordAgentError
from affordagent.core.lexicon import lexicon
from affordagent.evaluations.commands.command import Command, CommandGold
from affordagent.evaluations.commands.quality import Rejected, Screen, masked

SALT_BYTES = 32


@dataclass(frozen=True)
class Columns:
    """Headers of the CSV. text: what was said. writer: the platform's id of who said it. gold: categories with "|"
    between them, "none" or "ambiguous". example: the text that was shown. None = there is no such column."""

    text: str
    gold: str
    writer: str | None = None
    part: str | None = None
    colour: str | None = None
    scene: str | None = None
    group: str | None = None
    language: str | None = None
    absent: str | None = None
    notes: str | None = None
    example: str | None = None


PLATFORMS: dict[str, Columns] = {
    "mturk": Columns(
        "Answer.command",
        "Input.gold",
        "WorkerId",
        "Input.part",
        "Input.colour",
        "Input.scene",
        "Input.group",
        absent="Input.absent",
        example="Input.example",
    ),  # fmt: skip
    "prolific": Columns(
        "command",
        "gold",
        "PROLIFIC_PID",
        "part",
        "colour",
        "scene",
        "group",
        "UserLanguage",
        "absent",
        example="example",
    ),  # fmt: skip
}
"""Headers as the platforms write them: MTurk's batch results (Input.* of the batch file, Answer.* of the form), and a
Qualtrics export of a Prolific study with embedded data. Only `text` and `gold` must be there."""


@dataclass(frozen=True)
class Imported:
    commands: list[Command]
    rejected: list[Rejected]

    @property
    def reasons(self) -> Counter[str]:
        """How often each reason, without what stands after its first colon or row name."""
        short = (re.split(r":| of (?!the example)| as ", reason)[0] for row in self.rejected for reason in row.reasons)
        return Counter(short)


def columns_of(platform: str, changes: Sequence[str]) -> Columns:
    """The platform's headers, with changes such as "text=Q3_TEXT" ("example=" takes a column out).

    Raises:
        AffordAgentError: no such platform or field.
    """
    if platform not in PLATFORMS:
        raise AffordAgentError(f"--platform {platform!r} is not known; there are: {', '.join(PLATFORMS)}")
    names = {f.name for f in fields(Columns)}
    pairs = [change.partition("=") for change in changes]
    wrong = [field for field, equals, _ in pairs if field not in names or not equals]
    if wrong:
        raise AffordAgentError(f"--column {wrong[0]!r} is no field=HEADER; fields: {', '.join(sorted(names))}")
    mapped: dict[str, Any] = {field: header or None for field, _, header in pairs}
    columns = replace(PLATFORMS[platform], **mapped)
    if not (columns.text and columns.gold):
        raise AffordAgentError("--column must not take text or gold out: a command needs both")
    return columns


def read_salt(path: Path) -> bytes:
    """The salt in the file; a new one is written there when there is no file.

    Raises:
        AffordAgentError: the file holds no salt.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(SALT_BYTES) + "\n")
    try:
        salt = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"{path} holds no salt: {error}; give a file that is not there yet") from error
    if len(salt) < 16:
        raise AffordAgentError(f"{path} holds {len(salt)} bytes of salt, at least 16 are needed; remove the file")
    return salt


def anonymous(writer: str, salt: bytes) -> str:
    """The same for the same writer and salt; without the salt the writer cannot be found by trying ids."""
    return "w" + hashlib.blake2b(writer.strip().encode(), key=salt[:64], digest_size=6).hexdigest()


def import_csv(
    path: Path, columns: Columns, salt: bytes, *, language: str = "en", examples: Sequence[str] = (), name: str = ""
) -> Imported:
    """The commands of a CSV, and its rows that were rejected, each with its reasons.

    language: of rows without one. examples: texts that were shown to everybody. name: start of the ids (default: the
    file's name). Rows are numbered from 1 below the header, as a spreadsheet shows them less one; the two extra header
    lines of Qualtrics are not counted.

    Raises:
        AffordAgentError: the file cannot be read, or a column is not there.
    """
    name = slug(name or path.stem)
    screen = Screen(list(examples))
    taken: list[Command] = []
    rejected: list[Rejected] = []
    for number, row in enumerate(_rows(path, columns), 1):
        text = row.get("text", "")
        writer = anonymous(row["writer"], salt) if row.get("writer") else None
        if row.get("example") and row["example"] not in screen.examples:
            screen.examples = [*screen.examples, row["example"]]
        try:
            command = _command(f"{name}-{number:04d}", text, row, writer, language)
        except (ValueError, AffordAgentError) as error:
            rejected.append(Rejected(number, masked(text), writer, (_why(error),)))
            continue
        reasons = screen.reasons(command)
        if reasons:
            rejected.append(Rejected(number, masked(text), writer, reasons))
        else:
            taken.append(command)
    return Imported(taken, rejected)


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """One JSON object a line: row, text (masked), writer (anonymous), reasons."""
    path.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rejected), encoding="utf-8")


def slug(text: str) -> str:
    """Fit for an id: letters, digits and "-"."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:50] or "commands"


def _rows(path: Path, columns: Columns) -> list[dict[str, str]]:
    """Each row by field of `Columns`; empty cells are left out."""
    wanted = {field: header for field, header in asdict(columns).items() if header}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            there = reader.fieldnames or []
            missing = [header for header in (columns.text, columns.gold) if header not in there]
            if missing:
                raise AffordAgentError(
                    f"{path} has no column {missing[0]!r}; it has: {', '.join(there) or 'none'}. "
                    "Name yours with --column FIELD=HEADER"
                )
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AffordAgentError(f"cannot read {path}: {error}; give a UTF-8 CSV with a header line") from error
    if len(rows) > 1 and any(str(value).startswith('{"ImportId"') for value in rows[1].values()):
        rows = rows[2:]  # below the headers Qualtrics writes the question texts, and then {"ImportId": ...}
    return [{f: row[h].strip() for f, h in wanted.items() if (row.get(h) or "").strip()} for row in rows]


def _command(id: str, text: str, row: dict[str, str], writer: str | None, language: str) -> Command:
    gold = _gold(row)
    scene = row.get("scene")
    words = gold if isinstance(gold, str) else " ".join((*gold.categories, gold.part or "")) if gold else "none"
    return Command(
        id=id,
        text=text,
        scene=scene,
        gold=gold,  # type: ignore[arg-type]  # checked by the model
        group=slug(row.get("group") or f"{scene or 'any'} {words} {row.get('colour', '')}"),
        writer=writer,
        language=_tag(row.get("language", language)),
        absent=_list(row.get("absent", "")),
        notes=row.get("notes", ""),
    )


def _gold(row: dict[str, str]) -> CommandGold | str | None:
    said = row.get("gold", "").strip().lower()
    if said in ("none", "ambiguous"):
        return None if said == "none" else said
    categories = _list(said)
    unknown = [name for name in categories if name not in catalogue() and name not in lexicon()]
    if unknown or not categories:
        raise AffordAgentError(
            f"gold {said!r} is neither none, ambiguous, nor names of the catalogue or the lexicon with | between them"
        )
    return CommandGold(categories=categories, part=row.get("part"), colour=row.get("colour"))


def _tag(language: str) -> str:
    """Qualtrics writes EN and PT-BR, BCP 47 en and pt-BR."""
    first, dash, rest = language.strip().partition("-")
    return first.lower() + dash + rest


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip().lower() for part in text.split("|") if part.strip())


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return str(error)
