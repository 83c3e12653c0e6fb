"""Sums by call stack in the formats that profilers' viewers open."""

from __future__ import annotations

import functools
import gzip
import json
import time
from typing import Any, NamedTuple, TypeAlias

__all__ = ["ENCODERS", "FORMATS", "SAMPLE_TYPES", "Place", "Samples", "profile_class"]

#: The formats, and the ends of the file names that mean each.
FORMATS = {
    "pprof": (".pb.gz", ".pprof"),
    "collapsed": (".collapsed", ".folded"),
    "speedscope": (".speedscope.json", ".json"),
}
#: The columns of sizes, and what tcmalloc calls them in its profiles of the heap.
SAMPLE_TYPES = {"size": "space", "present": "resident_space", "swapped": "swapped_space"}
#: Each message of pprof's profile.proto that is written: a field's number, its type, and with "*"
#: whether it is repeated. https://github.com/google/pprof/blob/main/proto/profile.proto
_MESSAGES = {
    "ValueType": {"type": (1, "int64"), "unit": (2, "int64")},
    "Sample": {"location_id": (1, "uint64*"), "value": (2, "int64*")},
    "Line": {"function_id": (1, "uint64"), "line": (2, "int64")},
    "Location": {"id": (1, "uint64"), "line": (4, "Line*")},
    # no system_name: pprof would take "<module>" for the mangled name of a template
    "Function": {"id": (1, "uint64"), "name": (2, "int64"), "filename": (4, "int64")},
    "Profile": {
        "sample_type": (1, "ValueType*"),
        "sample": (2, "Sample*"),
        "location": (4, "Location*"),
        "function": (5, "Function*"),
        "string_table": (6, "string*"),
        "time_nanos": (9, "int64"),
        "period_type": (11, "ValueType"),
        "period": (12, "int64"),
        "default_sample_type": (14, "int64"),
    },
}
_MAX_INT64 = (1 << 63) - 1


class Place(NamedTuple):
    """A frame, with names that are safe to print; line 0 where it is not known."""

    function: str
    file: str
    line: int


Samples: TypeAlias = dict[tuple[Place, ...], list[int]]


def _collapsed(samples: Samples, column: str) -> bytes:
    at = list(SAMPLE_TYPES).index(column)
    texts = {place: _in_line(place) for place in {place for stack in samples for place in stack}}
    lines: dict[str, int] = {}  # stacks that read the same are one
    for stack, sizes in samples.items():
        text = ";".join(texts[place] for place in stack)
        lines[text] = lines.get(text, 0) + sizes[at]
    return "".join(f"{text} {size}\n" for text, size in lines.items() if size).encode()


def _in_line(place: Place) -> str:
    where = f" ({place.file}:{place.line})" if place.file else ""
    return f"{place.function}{where}".replace(";", ":")


def _speedscope(samples: Samples, column: str) -> bytes:
    number: dict[Place, int] = {}
    stacks = [[number.setdefault(each, len(number)) for each in stack] for stack in samples]
    profiles = []
    for at, name in enumerate(SAMPLE_TYPES):
        weights = [sizes[at] for sizes in samples.values()]
        about = {"type": "sampled", "name": name, "unit": "bytes", "startValue": 0}
        profiles.append({**about, "endValue": sum(weights), "samples": stacks, "weights": weights})
    frames: list[dict[str, str | int]] = []
    for place in number:
        where: dict[str, str | int] = {"file": place.file, "line": place.line}
        known = {key: value for key, value in where.items() if value}
        frames.append({"name": place.function, **known})
    whole = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "fastpagemap",
        "activeProfileIndex": list(SAMPLE_TYPES).index(column),
        "shared": {"frames": frames},
        "profiles": profiles,
    }
    return json.dumps(whole, separators=(",", ":")).encode()


def _pprof(samples: Samples, column: str) -> bytes:
    profile = profile_class()()
    if max(map(max, samples.values()), default=0) > _MAX_INT64:
        raise ValueError("pprof's format has no sums of 2**63 bytes or more")
    strings, functions, locations = {"": 0}, dict[Any, int](), dict[Place, int]()

    def text(word: str) -> int:
        return strings.setdefault(word, len(strings))

    for name in SAMPLE_TYPES.values():
        profile.sample_type.add(type=text(name), unit=text("bytes"))
    profile.default_sample_type = text(SAMPLE_TYPES[column])
    profile.period_type.type, profile.period_type.unit = text("space"), text("bytes")
    profile.period = 1
    profile.time_nanos = time.time_ns()
    for stack, sizes in samples.items():
        # ids begin with 1; pprof has the innermost frame first
        ids = [locations.setdefault(each, len(locations) + 1) for each in reversed(stack)]
        profile.sample.add(location_id=ids, value=sizes)
    for place, number in locations.items():
        function = functions.setdefault(place[:2], len(functions) + 1)
        profile.location.add(id=number).line.add(function_id=function, line=place.line)
    for (name, file), number in functions.items():
        profile.function.add(id=number, name=text(name), filename=text(file))
    profile.string_table.extend(strings)
    return gzip.compress(profile.SerializeToString())


@functools.cache
def profile_class() -> Any:
    """Return protobuf's class of a Profile, made from `_MESSAGES`."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError as error:  # of google itself, where no other package is
        what = "protobuf is not installed: pip install 'fastpagemap[profiles]'"
        raise ModuleNotFoundError(what, name="protobuf") from error

    package = "perftools.profiles"
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="profile.proto", package=package, syntax="proto3"
    )
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, (number, type_name) in fields.items():
            base = type_name.rstrip("*")
            label = kind.LABEL_REPEATED if type_name.endswith("*") else kind.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if base in _MESSAGES:
                field.type, field.type_name = kind.TYPE_MESSAGE, f".{package}.{base}"
            else:
                field.type = getattr(kind, f"TYPE_{base.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.Profile"))


ENCODERS = {"pprof": _pprof, "collapsed": _collapsed, "speedscope": _speedscope}
