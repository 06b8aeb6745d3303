"""Rows of affordance data from Parquet or CSV, and the pictures they name.

In memory paths are absolute; in a file they are relative to its folder where they lie below it, so a set can be moved.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.pictures import PICTURE_ERRORS, opened
from affordagent.finetune.data.rle import decode_rle, looks_like_rle
from affordagent.finetune.data.schema import KINDS, STATUSES, Sample

PATHS = ("image", "mask", "depth", "object_mask")
IGNORED_LABEL = 255
INTEGERS, FLOATS = ("mask_label", "object_label"), ("depth_unit_m", "confidence")
_TYPES = dict.fromkeys(INTEGERS, pa.int64()) | dict.fromkeys(FLOATS, pa.float64())
ARROW_SCHEMA = pa.schema([(f.name, _TYPES.get(f.name, pa.string())) for f in fields(Sample)])
_DEFAULTS = {f.name: f.default for f in fields(Sample) if f.default is not MISSING}


def read_samples(file: Path, unlabelled: bool = False) -> list[Sample]:
    """The rows of a Parquet or CSV file, with absolute paths; no picture is opened.

    unlabelled: also those that nobody has made a mask for yet; without, they are left out.

    CSV: UTF-8, a header line, columns `image`, `text` and `mask` or `mask_rle`; the other columns of Sample are
    optional, an empty cell is None (or the column's default). Columns that Sample does not have are left out.

    Raises:
        AffordAgentError: names the file, the row and the column, and what is wrong with it.
    """
    samples = list(iter_samples(file, unlabelled))
    if not samples:
        which = "" if unlabelled else " whose mask is known; annotate those there are, or"
        raise AffordAgentError(f"{file} has a header but no rows{which or ';'} add one row a question")
    return samples


def iter_samples(file: Path, unlabelled: bool = True) -> Iterator[Sample]:
    """As `read_samples`, one by one and in the order of the file: Parquet of any size is read in pieces."""
    file = Path(file)
    if not file.is_file():
        raise AffordAgentError(f"{file} is not there; give a .parquet or .csv file")
    if file.suffix == ".parquet":
        header, rows = _parquet_rows(file)
    elif file.suffix == ".csv":
        header, rows = _csv_rows(file)
    else:
        raise AffordAgentError(f"{file}: '{file.suffix}' is not known; give a .parquet or .csv file")
    _check_header(file, header)
    folder = os.path.abspath(file.parent)
    for where, row in rows:
        sample = _sample(row, folder, f"{file}, {where}")
        if unlabelled or sample.status == "labelled":
            yield sample


def write_parquet(samples: Iterable[Sample], file: Path) -> int:
    """Write rows, in pieces, so that an iterator of any length will do, and say how many.

    The file appears only when it is complete. Absolute paths below its folder become relative to it; others stay.

    Raises:
        AffordAgentError: no samples, a row that read_samples would refuse, or the folder cannot be written.
    """
    file = Path(file)
    folder = os.path.abspath(file.parent)
    draft = file.with_name(file.name + ".part")
    count = 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(draft, ARROW_SCHEMA, compression="zstd") as writer:
            for piece in _pieces(samples, 20_000):
                columns = {name: [getattr(s, name) for s in piece] for name in ARROW_SCHEMA.names}
                for name in PATHS:
                    columns[name] = [_relative(path, folder) for path in columns[name]]
                for row, sample in enumerate(piece, start=count + 1):
                    check_sample(sample, f"{file}, row {row}")
                writer.write_table(pa.table(columns, schema=ARROW_SCHEMA))
                count += len(piece)
        if not count:
            raise AffordAgentError(f"{file}: no rows to write; check the folder and the names of the sets")
        os.replace(draft, file)
        return count
    except OSError as error:
        raise AffordAgentError(f"cannot write {file}: {error}") from error
    finally:
        draft.unlink(missing_ok=True)


def load_image(sample: Sample) -> NDArray[np.uint8]:
    """(H, W, 3) RGB, turned upright as its EXIF tag says.

    Raises:
        AffordAgentError: the file is missing or is not a picture.
    """
    picture = cv2.imread(sample.image, cv2.IMREAD_COLOR) if os.path.isfile(sample.image) else None
    if picture is None:
        raise AffordAgentError(f"image {sample.image} {_why(sample.image)}")
    return np.ascontiguousarray(picture[..., ::-1])


def load_mask(sample: Sample, shape: Sequence[int]) -> Mask:
    """(H, W) bool of the foreground in a picture of `shape` (H, W, ...); all False where nothing is to be segmented.

    Label pictures may have a palette (its indices count); in colour pictures what is not black is foreground.

    Raises:
        AffordAgentError: the row is unlabelled, or the mask is missing, broken, or has another size than the picture.
    """
    if sample.status == "unlabelled":
        raise AffordAgentError(f"{sample.image} ('{sample.text}') is unlabelled: nobody has made its mask yet")
    height, width = int(shape[0]), int(shape[1])
    if sample.mask_rle is not None:
        return decode_rle(sample.mask_rle, (height, width), f"image {sample.image} ('{sample.text}')")
    if sample.mask is None:
        return np.zeros((height, width), bool)
    labels = _labels(sample)
    if labels.shape != (height, width):
        raise AffordAgentError(
            f"mask {sample.mask} is {labels.shape[1]}x{labels.shape[0]}, image {sample.image} is {width}x{height}: "
            "they must have one size"
        )
    if sample.mask_label is not None:
        return labels == sample.mask_label
    return (labels > 0) & ~_ignored(sample, labels)


def load_object_mask(sample: Sample, shape: Sequence[int]) -> Mask | None:
    """(H, W) bool of the whole thing, None where the row does not say; errors as of `load_mask`."""
    if sample.object_mask is None and sample.object_rle is None:
        return None
    whole = replace(
        sample,
        mask=sample.object_mask,
        mask_label=sample.object_label,
        mask_rle=sample.object_rle,
        kind="template",
        status="labelled",
    )
    return load_mask(whole, shape)


def load_ignored(sample: Sample, shape: Sequence[int]) -> Mask:
    """(H, W) bool of the pixels that count neither way in a picture of `shape`: 255 in the labels of "semantic" rows.

    A label picture that holds nothing but 0 and 255 is a plain mask, and nothing of it is ignored.

    Raises:
        AffordAgentError: the mask is missing or broken.
    """
    if sample.kind != "semantic" or sample.mask is None:
        return np.zeros((int(shape[0]), int(shape[1])), bool)
    return _ignored(sample, _labels(sample))


def _ignored(sample: Sample, labels: NDArray[Any]) -> Mask:
    out = labels == IGNORED_LABEL
    plain = sample.mask_label is None and not ((labels > 0) & ~out).any()
    return out & (sample.kind == "semantic" and not plain)


def load_labels(path: str) -> NDArray[Any]:
    """(H, W) or (H, W, channels) of a label picture; with a palette, its indices.

    Raises:
        AffordAgentError: missing or broken.
    """
    try:
        with opened(path) as picture:
            return np.asarray(picture)
    except PICTURE_ERRORS as error:
        raise AffordAgentError(f"mask {path} {_why(path)}") from error


def _labels(sample: Sample) -> NDArray[Any]:
    labels = load_labels(str(sample.mask))
    if labels.ndim == 2:
        return labels
    if sample.mask_label is not None:
        raise AffordAgentError(
            f"mask {sample.mask} has {labels.shape[2]} channels, mask_label {sample.mask_label} needs one: "
            "store the labels as a grey or palette picture, or leave mask_label empty"
        )
    alpha = labels.shape[2] in (2, 4)
    colours = labels[..., :-1] if alpha else labels
    foreground = np.asarray(colours.any(axis=2))
    return (foreground & (labels[..., -1] > 0) if alpha else foreground).astype(np.uint8)


def _why(path: str) -> str:
    return "is broken or not a picture" if os.path.isfile(path) else "is missing"


def _relative(path: str | None, folder: str) -> str | None:
    prefix = folder.rstrip(os.sep) + os.sep
    return path[len(prefix) :] if path is not None and path.startswith(prefix) else path


def _pieces(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    piece: list[Sample] = []
    for sample in samples:
        piece.append(sample)
        if len(piece) == size:
            yield piece
            piece = []
    if piece:
        yield piece


def _csv_rows(file: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            lines = [(reader.line_num, cells) for cells in reader]
    except UnicodeDecodeError as error:
        raise AffordAgentError(f"{file} is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise AffordAgentError(f"{file} is not a CSV file: {error}") from error
    if not lines:
        raise AffordAgentError(f"{file} is empty; its first line must name the columns, e.g. image,mask,text")
    header = [name.strip() for name in lines[0][1]]

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for line, cells in lines[1:]:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise AffordAgentError(
                    f"{file}, line {line} has {len(cells)} cells, the header has {len(header)}: "
                    "put a text that holds a comma in double quotes"
                )
            yield f"line {line}", {name: cell.strip() or None for name, cell in zip(header, cells, strict=True)}

    return header, rows()


def _parquet_rows(file: Path) -> tuple[list[str], Iterator[tuple[str, dict[str, Any]]]]:
    try:
        source = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise AffordAgentError(f"{file} is not a Parquet file that can be read: {error}") from error
    known = [n for n in source.schema_arrow.names if n in ARROW_SCHEMA.names]

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            with source:
                for batch in source.iter_batches(20_000, columns=known):
                    for cells in zip(*(batch[name].to_pylist() for name in known), strict=True):
                        number += 1
                        yield f"row {number}", dict(zip(known, cells, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise AffordAgentError(f"{file} is not a Parquet file that can be read: {error}") from error

    return known, rows()


def _check_header(file: Path, header: list[str]) -> None:
    names = ARROW_SCHEMA.names
    twice = sorted({name for name in header if name in names and header.count(name) > 1})
    if twice:
        raise AffordAgentError(f"{file}: column '{twice[0]}' is there twice")
    for name in header:
        near = [] if name in names else difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        if near and near[0] not in header:
            raise AffordAgentError(f"{file}: column '{name}' is not known. Did you mean '{near[0]}'?")
    for needed in (("image",), ("text",), ("mask", "mask_rle")):
        if not any(name in header for name in needed):
            raise AffordAgentError(
                f"{file}: no column '{needed[0]}'; there are {', '.join(header)}. At least image,mask,text are needed"
            )


def _sample(row: dict[str, Any], folder: str, where: str) -> Sample:
    given = {name: row[name] for name in ARROW_SCHEMA.names if row.get(name) is not None}
    needed = ("image",) if given.get("status") == "unlabelled" else ("image", "text")
    for name in needed:
        if not given.get(name):
            raise AffordAgentError(f"{where}, column '{name}': empty; every row needs its {name}")
    given.setdefault("text", "")
    for names, kind in ((INTEGERS, int), (FLOATS, float)):
        given |= {name: _number(given[name], kind, where, name) for name in names if name in given}
    for name in PATHS:
        if name in given:
            given[name] = os.path.normpath(os.path.join(folder, given[name]))
    sample = Sample(**{**_DEFAULTS, **given})
    check_sample(sample, where)
    return sample


def _number(value: Any, kind: type[int] | type[float], where: str, column: str) -> int | float:
    """Also whole floats for integers: that is how pandas writes a column with gaps."""
    try:
        number = float(value)
        if kind is float or number.is_integer():
            return kind(number)
    except ValueError:
        pass
    raise AffordAgentError(f"{where}, column '{column}': '{value}' is not {'a whole' if kind is int else 'a'} number")


def check_sample(sample: Sample, where: str) -> None:
    """Refuse a row that could not be read again.

    Raises:
        AffordAgentError: names the place and the column, and what is wrong with it.
    """
    if not sample.image or (sample.status == "labelled" and not sample.text):
        raise AffordAgentError(f"{where}, column '{'text' if sample.image else 'image'}': empty; every row needs one")
    if sample.kind not in KINDS:
        raise AffordAgentError(f"{where}, column 'kind': '{sample.kind}' is not known; one of {', '.join(KINDS)}")
    if sample.status not in STATUSES:
        known = ", ".join(STATUSES)
        raise AffordAgentError(f"{where}, column 'status': '{sample.status}' is not known; one of {known}")
    if sample.status == "unlabelled" and (sample.mask is not None or sample.mask_rle is not None):
        raise AffordAgentError(f"{where}, column 'status': unlabelled, but there is a mask; a row has one or the other")
    _check_mask(where, "mask", sample.mask, sample.mask_label, sample.mask_rle)
    _check_mask(where, "object_mask", sample.object_mask, sample.object_label, sample.object_rle)
    if sample.box is not None and box_of_row(sample) is None:
        limits = "[x0, y0, x1, y1] with 0 <= x0 < x1, 0 <= y0 < y1"
        raise AffordAgentError(f"{where}, column 'box': '{sample.box[:80]}' is not {limits}")
    if sample.confidence is not None and not 0 <= sample.confidence <= 1:
        raise AffordAgentError(f"{where}, column 'confidence': {sample.confidence} is not between 0 and 1")


def _check_mask(where: str, name: str, mask: str | None, label: int | None, rle: str | None) -> None:
    of = {"mask": ("mask_label", "mask_rle"), "object_mask": ("object_label", "object_rle")}[name]
    if mask is not None and rle is not None:
        raise AffordAgentError(f"{where}, column '{of[1]}': there is also a mask file; give one of the two")
    if label is not None and mask is None:
        raise AffordAgentError(f"{where}, column '{of[0]}': {label} without a mask file")
    if rle is not None and not looks_like_rle(rle):
        raise AffordAgentError(
            f"{where}, column '{of[1]}': not a COCO run-length encoding as JSON, "
            'e.g. {"size": [480, 640], "counts": "..."}'
        )


def box_of_row(sample: Sample) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 in pixels, of a positive size; None where the row has no such box."""
    try:
        x0, y0, x1, y1 = (float(n) for n in json.loads(sample.box or "[]"))
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None
    return (x0, y0, x1, y1) if 0 <= x0 < x1 < math.inf and 0 <= y0 < y1 < math.inf else None
