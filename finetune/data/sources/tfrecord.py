"""TFRecord files and the `tf.train.Example` in each record, without TensorFlow.

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details: 8 bytes of length, 4 of its
checksum, the record, 4 of its checksum; little-endian, CRC-32C, masked. The message is in
tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from affordagent.core.errors import AffordAgentError

MAX_RECORD_BYTES = 1 << 30
Feature = list[bytes] | list[float] | list[int]


def records(file: Path) -> Iterator[bytes]:
    """The records of a file, in order.

    Raises:
        AffordAgentError: the file cannot be read, is cut, a length is not true, or a checksum does not fit. What came
            before is sound.
    """
    try:
        left = os.path.getsize(file)
        with file.open("rb") as stream:
            while head := stream.read(12):
                left -= len(head) + 4
                if len(head) < 12 or _masked(head[:8]) != head[8:]:
                    raise AffordAgentError(f"{file.name} is no TFRecord file, or is cut: a length has another checksum")
                (length,) = struct.unpack("<Q", head[:8])
                if length > min(left, MAX_RECORD_BYTES):
                    limit = f"{left} are left in the file, and the limit is {MAX_RECORD_BYTES}"
                    raise AffordAgentError(f"{file.name}: a record says it has {length} bytes, but {limit}")
                content = stream.read(length)
                if _masked(content) != stream.read(4):
                    raise AffordAgentError(f"{file.name}: a record has another checksum; fetch the file again")
                left -= length
                yield content
    except OSError as error:
        raise AffordAgentError(f"cannot read {file.name}: {error.strerror or error}") from error


def example_of(record: bytes) -> dict[str, Feature]:
    """The features of an Example by name, each a list.

    Raises:
        AffordAgentError: it is none.
    """
    try:
        example = _example_class().FromString(record)
    except DecodeError as error:
        raise AffordAgentError(f"a record is no tf.train.Example: {error}") from error
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def _values(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []


def _masked(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _example_class() -> Any:
    """tensorflow.Example, built from its description so that no generated code is needed."""
    types = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="affordagent_example.proto", package="affordagent", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, str | None, bool]) -> Any:
        out = file.message_type.add(name=name)
        for field, number, kind, of, many in fields:
            out.field.add(
                name=field,
                number=number,
                type=kind,
                type_name=of and f".affordagent.{of}",
                label=types.LABEL_REPEATED if many else types.LABEL_OPTIONAL,
            )
        return out

    message("BytesList", ("value", 1, types.TYPE_BYTES, None, True))
    message("FloatList", ("value", 1, types.TYPE_FLOAT, None, True))
    message("Int64List", ("value", 1, types.TYPE_INT64, None, True))
    feature = message(
        "Feature",
        ("bytes_list", 1, types.TYPE_MESSAGE, "BytesList", False),
        ("float_list", 2, types.TYPE_MESSAGE, "FloatList", False),
        ("int64_list", 3, types.TYPE_MESSAGE, "Int64List", False),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message("Features", ("feature", 1, types.TYPE_MESSAGE, "Features.FeatureEntry", True))
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=types.TYPE_STRING, label=types.LABEL_OPTIONAL)
    entry.field.add(
        name="value", number=2, type=types.TYPE_MESSAGE, type_name=".affordagent.Feature", label=types.LABEL_OPTIONAL
    )
    message("Example", ("features", 1, types.TYPE_MESSAGE, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("affordagent.Example"))
