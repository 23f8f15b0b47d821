"""The comments of protos, by the full names of what they stand above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# Of each kind of thing: its members in a FileDescriptorProto, as (number of the field, name of the field).
_OF_FILE = ((4, "message_type"), (5, "enum_type"), (6, "service"))
_OF_MESSAGE = ((2, "field"), (3, "nested_type"), (4, "enum_type"), (8, "oneof_decl"))
_MEMBERS: dict[str, tuple[tuple[int, str], ...]] = {
    "FileDescriptorProto": _OF_FILE,
    "DescriptorProto": _OF_MESSAGE,
    "EnumDescriptorProto": ((2, "value"),),
    "ServiceDescriptorProto": ((2, "method"),),
}


def comments_of(described: bytes) -> dict[str, str]:
    """Returns full name → comment of a serialized FileDescriptorSet with source info.

    A value of an enum is named below its enum (`easyq.v1.Job.State.QUEUED`), unlike in protobuf itself. Lines of a
    paragraph are joined; paragraphs are parted by an empty line.
    """
    files = FileDescriptorSet.FromString(described).file
    return {name: text for file in files for name, text in _of_file(file)}


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    leading = {tuple(at.path): at.leading_comments for at in file.source_code_info.location if at.leading_comments}
    for path, name in _walk(file, (), file.package):
        if path in leading:
            yield name, _plain(leading[path])


def _walk(thing: Any, path: Sequence[int], name: str) -> Iterator[tuple[tuple[int, ...], str]]:
    for number, field in _MEMBERS.get(thing.DESCRIPTOR.name, ()):
        for index, member in enumerate(getattr(thing, field)):
            below, called = (*path, number, index), f"{name}.{member.name}"
            yield below, called
            yield from _walk(member, below, called)


def _plain(comment: str) -> str:
    paragraphs = "\n".join(line.strip() for line in comment.strip().splitlines()).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in paragraphs)
