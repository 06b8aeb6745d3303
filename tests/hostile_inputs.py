"""What the tests of hostile inputs share: files that lie, and an import that is watched."""

import io
import json
import signal
import struct
import zipfile
import zlib
from pathlib import Path

from PIL import Image
from source_folders import encoded, scene

from affordagent.finetune.data.importing import verified
from affordagent.finetune.data.schema import Rejected, Sample
from affordagent.finetune.data.sources.all import SOURCES
from affordagent.finetune.data.sources.found import Take

NAN = float("nan")
LIMIT_S = 120  # for one input, on a machine that is busy


def png(width: int, height: int, chunks: bytes = b"") -> bytes:
    """A header that says it is so large, whatever follows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + body + chunk(b"IEND", b"")


def exif_jpeg(exif: bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(scene(1)).save(file, "JPEG", exif=exif)
    return file.getvalue()


def slip(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, encoded(1, "PNG"))
    return file.getvalue()


def bring(work: Path, source: str, folder: Path) -> tuple[list[Sample], list[Rejected]]:
    """Rows and refusals of an import. Nothing may be executed (it would write "executed..." below `work`, the present
    folder), and nothing may take LIMIT_S."""

    def too_long(*_):
        raise TimeoutError(f"more than {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LIMIT_S)
    try:
        found = list(verified(SOURCES[source](folder, Take(work / "made")), 1))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not list(work.rglob("executed*")), "something was executed"
    assert not Path("/tmp/executed.png").exists()
    refused = [one for one in found if isinstance(one, Rejected)]
    assert all(one.reason.strip() and one.source_id for one in refused)
    json.dumps([vars(one) for one in refused]).encode()
    return [one for one in found if isinstance(one, Sample)], refused
