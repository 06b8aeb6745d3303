"""Rows of affordance data from Parquet or CSV, and the pictures they name.

In memory paths are absolute; in a file they are relative to its folder where they lie below it, so a set can be moved.
"""

from __future__ import annotations

import csv
import difflib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.finetune.data.schema import KINDS, Sample

PATHS = ("image", "mask", "depth")
IGNORED_LABEL = 255
EXIF_ORIENTATION, TURNED = 0x0112, 5
# What Pillow raises for files that are missing, no picture, cut, broken inside, or absurdly large.
PICTURE_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_TYPES = {"mask_label": pa.int64(), "depth_unit_m": pa.float64()}
ARROW_SCHEMA = pa.schema([(f.name, _TYPES.get(f.name, pa.string())) for f in fields(Sample)])
_DEFAULTS = {f.name: f.default for f in fields(Sample) if f.default is not MISSING}


def read_samples(file: Path) -> list[Sample]:
    """The rows of a Parquet or CSV file, with absolute paths; no picture is opened.

    CSV: UTF-8, a header line, columns `image`, `text` and `mask` or `mask_rle`; the other columns of Sample are
    optional, an empty cell is None (or the column's default). Columns that Sample does not have are left out.

    Raises:
        AffordAgentError: names the file, the row and the column, and what is wrong with it.
    """
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
    samples = [_sample(row, folder, f"{file}, {where}") for where, row in rows]
    if not samples:
        raise AffordAgentError(f"{file} has a header but no rows; add one row a question")
    return samples


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
                    _check(sample, f"{file}, row {row}")
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
        AffordAgentError: the mask is missing, broken, or has another size than the picture.
    """
    height, width = int(shape[0]), int(shape[1])
    if sample.mask_rle is not None:
        return _decode_rle(sample, (height, width))
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


def encode_rle(mask: Mask) -> str:
    """(H, W) bool -> the JSON of a COCO run-length encoding, as `Sample.mask_rle` holds it."""
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return json.dumps({"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")})


def load_labels(path: str) -> NDArray[Any]:
    """(H, W) or (H, W, channels) of a label picture; with a palette, its indices.

    Raises:
        AffordAgentError: missing or broken.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except PICTURE_ERRORS as error:
        raise AffordAgentError(f"mask {path} {_why(path)}") from error


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened picture, turned as its EXIF tag says, as load_image turns it; nothing is decoded."""
    width, height = picture.size
    return (width, height) if picture.getexif().get(EXIF_ORIENTATION, 1) >= TURNED else (height, width)


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


def _decode_rle(sample: Sample, size: tuple[int, int]) -> Mask:
    rle = json.loads(str(sample.mask_rle))
    if tuple(rle["size"]) != size:
        raise AffordAgentError(
            f"mask_rle is {rle['size'][1]}x{rle['size'][0]}, image {sample.image} is {size[1]}x{size[0]}: "
            "they must have one size"
        )
    runs = rle["counts"] if isinstance(rle["counts"], list) else _runs(rle["counts"])
    if any(not isinstance(n, int) or n < 0 for n in runs) or sum(runs) != size[0] * size[1]:
        raise AffordAgentError(
            f"mask_rle of {sample.image} ('{sample.text}') is broken: its runs do not add up to {size[0] * size[1]} "
            "pixels; write it with pycocotools.mask.encode"
        )
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size[1], size[0]).T


def _runs(counts: str) -> list[int]:
    """The run lengths of COCO's string: 5 bits a character, low ones first, each but the first two as a difference.

    pycocotools has its own, but fills the mask of a string that is too short with what was in memory.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs if shift == 0 else []


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
        known = [n for n in pq.read_schema(file).names if n in ARROW_SCHEMA.names]
        table = pq.read_table(file, columns=known)
    except (pa.ArrowException, OSError) as error:
        raise AffordAgentError(f"{file} is not a Parquet file that can be read: {error}") from error
    columns = [table[name].to_pylist() for name in known]
    rows = ((f"row {i}", dict(zip(known, cells, strict=True))) for i, cells in enumerate(zip(*columns, strict=True), 1))
    return known, rows


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
    for name in ("image", "text"):
        if not given.get(name):
            raise AffordAgentError(f"{where}, column '{name}': empty; every row needs its {name}")
    if "mask_label" in given:
        given["mask_label"] = _number(given["mask_label"], int, where, "mask_label")
    if "depth_unit_m" in given:
        given["depth_unit_m"] = _number(given["depth_unit_m"], float, where, "depth_unit_m")
    for name in PATHS:
        if name in given:
            given[name] = os.path.normpath(os.path.join(folder, given[name]))
    sample = Sample(**{**_DEFAULTS, **given})
    _check(sample, where)
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


def _check(sample: Sample, where: str) -> None:
    if sample.kind not in KINDS:
        raise AffordAgentError(f"{where}, column 'kind': '{sample.kind}' is not known; one of {', '.join(KINDS)}")
    if sample.mask is not None and sample.mask_rle is not None:
        raise AffordAgentError(f"{where}, column 'mask_rle': there is also a mask file; give one of the two")
    if sample.mask_label is not None and sample.mask is None:
        raise AffordAgentError(f"{where}, column 'mask_label': {sample.mask_label} without a mask file")
    if sample.mask_rle is not None and not _looks_like_rle(sample.mask_rle):
        raise AffordAgentError(
            f"{where}, column 'mask_rle': not a COCO run-length encoding as JSON, "
            'e.g. {"size": [480, 640], "counts": "..."}'
        )


def _looks_like_rle(text: str) -> bool:
    try:
        rle = json.loads(text)
    except ValueError:
        return False
    if not isinstance(rle, dict) or not isinstance(rle.get("counts"), str | list):
        return False
    size = rle.get("size")
    return isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) and n > 0 for n in size)
