"""The published model's tokenizer: the slow Llama tokenizer of transformers 4.31 in its legacy mode, with plain
`sentencepiece`.

The legacy recipe: text is cut at added and special tokens; white space on both sides of an *added* token is dropped;
every remaining piece is encoded on its own and so gets its own leading "▁". The tokenizers of transformers 5 give other
ids for the same text, and other ids are another prompt.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece

from affordagent.core.errors import AffordAgentError

IMAGE_ID = -200  # stands for the picture among the ids
IMAGE_TEXT = "<image>"
SEG, AFF, IMAGE_START, IMAGE_END = "[SEG]", "[AFF]", "<im_start>", "<im_end>"
TOKENIZER_FILES = ("tokenizer.model", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Tokens:
    """Text to ids and back.

    model: the sentencepiece model. added: the tokens put behind its vocabulary, text -> id.
    """

    model: sentencepiece.SentencePieceProcessor
    added: dict[str, int]

    @classmethod
    def load(cls, folder: Path, *, complete: bool = True) -> Tokens:
        """Read `tokenizer.model` and the added tokens of a checkpoint folder. complete: the model's own must be there.

        Raises:
            AffordAgentError: a file is missing or broken, or one of [SEG], [AFF], <im_start>, <im_end> is not there.
        """
        file = folder / "tokenizer.model"
        if not file.is_file():
            raise AffordAgentError(f"{folder} has no tokenizer.model; copy the published tokenizer files there")
        try:
            model = sentencepiece.SentencePieceProcessor(model_file=str(file))
        except (RuntimeError, OSError) as error:
            raise AffordAgentError(f"{file} is not a sentencepiece model: {error}") from error
        added = _added_tokens(folder)
        for token in (SEG, AFF, IMAGE_START, IMAGE_END):
            if complete and token not in added:
                raise AffordAgentError(
                    f"{token} is not in the vocabulary of {folder} (added tokens: {', '.join(added) or 'none'}); "
                    "this is not an AffordanceVLM checkpoint, or its added_tokens.json is not the published one"
                )
        return cls(model, added)

    @property
    def mask_ids(self) -> tuple[int, int]:
        """The ids of [SEG] and [AFF]."""
        return self.added[SEG], self.added[AFF]

    @property
    def bos(self) -> int:
        return self.model.bos_id()

    @property
    def eos(self) -> int:
        return self.model.eos_id()

    @property
    def unk(self) -> int:
        """Also the id of padding: the reference pads with the unknown token, and never attends to either."""
        return self.model.unk_id()

    def __len__(self) -> int:
        return max([self.model.vocab_size(), *(i + 1 for i in self.added.values())])

    def encode(self, text: str) -> list[int]:
        """Ids of a conversation: <s>, then the text with the picture ("<image>") as one -200."""
        ids = [self.bos]
        for number, chunk in enumerate(text.split(IMAGE_TEXT)):
            ids += [IMAGE_ID] * (number > 0) + self._encode_chunk(chunk)
        return ids

    def _encode_chunk(self, text: str) -> list[int]:
        pattern = "|".join(re.escape(t) for t in sorted({*self._special, *self.added}, key=len, reverse=True))
        parts = re.split(f"({pattern})", text)  # odd places hold the tokens
        for i in range(1, len(parts), 2):
            if parts[i] in self.added:
                parts[i - 1], parts[i + 1] = parts[i - 1].rstrip(), parts[i + 1].lstrip()
        ids: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.added.get(part, self._special.get(part, self.unk)))
            elif part:
                ids += self.model.encode(part)
        return ids

    @property
    def _special(self) -> dict[str, int]:
        return {self.model.id_to_piece(i): i for i in (self.unk, self.bos, self.eos)}

    def decode(self, ids: list[int]) -> str:
        """Text of the ids as transformers 4.31 gives it: runs between added tokens joined by one space. -200 is left
        out, ids behind the vocabulary are shown as the unknown token."""
        names = {i: t for t, i in self.added.items()}
        runs: list[str] = []
        run: list[int] = []
        for i in (i for i in ids if i != IMAGE_ID):
            if i in names:
                runs += [self._decode_run(run)] if run else []
                runs.append(names[i])
                run = []
            else:
                run.append(i if i < self.model.vocab_size() else self.unk)
        return " ".join(runs + ([self._decode_run(run)] if run else []))

    def _decode_run(self, ids: list[int]) -> str:
        special = {i: t for t, i in self._special.items()}
        text, after_special = "", False
        pieces: list[int] = []
        for place, i in enumerate(ids):
            if i in special:
                text += " " * (place > 0 and not after_special) + self.model.decode(pieces) + special[i]
                pieces, after_special = [], True
            else:
                pieces.append(i)
                after_special = False
        return text + self.model.decode(pieces)

    def printed(self, ids: list[int]) -> str:
        """The whole conversation as the reference's chat prints it."""
        return self.decode(ids).replace("\n", "").replace("  ", " ")

    def answer(self, ids: list[int]) -> str:
        """The last answer in a conversation as the reference's app shows it, e.g. "It is [AFF] ."."""
        return self.printed(ids).split("ASSISTANT:")[-1].replace("</s>", "").strip()


def _added_tokens(folder: Path) -> dict[str, int]:
    """From `added_tokens.json`, or from `added_tokens_decoder` of a newer `tokenizer_config.json`."""
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if config.get("legacy") is False:
        raise AffordAgentError(
            f"{folder}/tokenizer_config.json says legacy: false; the published model is legacy: true"
        )
    if (folder / "added_tokens.json").is_file():
        return {str(text): int(i) for text, i in read_json(folder / "added_tokens.json").items()}
    rows = config.get("added_tokens_decoder", {})
    special = {"<unk>", "<s>", "</s>"}
    return {row["content"]: int(i) for i, row in rows.items() if row["content"] not in special}


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        AffordAgentError: no such file, or not a JSON object.
    """
    try:
        value = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"cannot read {file}: {error}") from error
    if not isinstance(value, dict):
        raise AffordAgentError(f"{file} must hold a JSON object, it holds a {type(value).__name__}")
    return value
