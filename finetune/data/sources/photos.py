"""A folder of one's own photos. What lies in a folder of its own below it is of the class that folder is named after.

    mug/IMG_0001.jpg, mug/2.png, hammer/a.jpg, IMG_0007.jpg

Pictures are turned upright as their EXIF tag says. Nothing else of EXIF, such as the place, is kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from affordagent.core.errors import AffordAgentError
from affordagent.finetune.data.schema import Sample
from affordagent.finetune.data.sources.found import Found, Take, attempt, inside, part_of, provenance, question

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz")


def rows(folder: Path, take: Take) -> Iterator[Found]:
    """A row for each picture in the folder and below it; each other file is refused by name.

    Raises:
        AffordAgentError: there is no such folder.
    """
    if not folder.is_dir():
        raise AffordAgentError(f"{folder} is not a folder")
    for parent, below, files in os.walk(folder):
        below.sort()
        for name in sorted(files):
            place = Path(parent).relative_to(folder) / name
            yield attempt(str(place), _row, folder, place, take)


def _row(root: Path, place: Path, take: Take) -> Sample:
    suffix = place.suffix.lower()
    if suffix in ARCHIVES:
        raise AffordAgentError(f"is an archive ({suffix}); none is opened: unpack it yourself")
    if suffix not in SUFFIXES:
        raise AffordAgentError(f"is of a kind that is not read ({suffix or 'no ending'}); save it as JPEG or PNG")
    category = place.parts[0].replace("_", " ") if len(place.parts) > 1 else None
    return Sample(
        image=str(inside(root, place)),
        text=question(category, str(place), take.seed),
        category=category,
        source="photos",
        split="train",
        source_id=str(place),
        group=f"photos/{place}",
        licence=take.licence,
        provenance=provenance(file=place.as_posix()),
        part=part_of(category),
        status="unlabelled",
    )
