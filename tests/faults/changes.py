"""Changes of a file, as hypothesis draws them: of its bytes, of its values, of what it is."""

import json
import os
import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from hypothesis import strategies as st

from seqjax.runs.files.manifest import content_of, read_manifest, write_manifest

LARGE = 2**30
"""The bytes of the largest file whose hash is computed: that of 2^40 zeros would take an hour."""
EVIL = "\x1b[8mZ\x1b]0;Z\x07\x9b8mZ\x7f\u202eZ\u2066Z\u2028Z"
"""Hides what follows, sets the title of the window, begins a C1 sequence, deletes, reorders, ends the line."""
EVIL_TEXT = '"\\u001b[8mZ\\u009b\\u202e"'
"""The same as JSON and TOML have it."""
SHARED = [
    *("true", "-1", "0", "1", "1.5", "[]", "{}", "[1, [2]]", "2147483648", "9223372036854775807", "9" * 25),
    *("9" * 400, "9" * 5000, "1e400", "-0.0", '""', '"1"', '"../x"', f'"{"a" * 300}"', '"nan"', '"a\\u0000b"'),
    *(EVIL_TEXT, EVIL_TEXT, EVIL_TEXT, '"/dev/zero"', "[" * 33 + "]" * 33, "[" * 5000 + "]" * 5000),
]
JSON = [*SHARED, "null", "NaN", "-Infinity", '"\\ud800"', '{"a": 1}', '{"a":' * 900 + "1" + "}" * 900, "[" * 100_000]
TOML = [*SHARED, "nan", "inf", "{a = 1}", "1979-05-27", '{plugin = "seqjax/rnn"}', '{plugin = "local/halves"}']
TOML += ['"seqjax/rnn"', '["a"]', "{plugin = 3}", '"text-file:path=text.txt"', f"{'{a = ' * 900}1{'}' * 900}"]
OTHER = [b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"{", b"\x1b[31m", b"9" * 5000, b"[" * 10**5]
MARK = "@here@"
"""Stands for the odd text in a value, until it is written."""


class Change(NamedTuple):
    """A change.

    Args:
        what: in words.
        make: path of the file -> changes it.
        keeps_file: whether it stays a plain file.
    """

    what: str
    make: Callable[[Path], Any]
    keeps_file: bool = True


@st.composite
def changes(draw: Any, name: str, data: bytes) -> Change:
    """A change of a file with this name and content."""
    kinds = [of_bytes, of_bytes, of_file]
    if name.endswith((".json", ".toml", ".jsonl", ".safetensors")):
        kinds += [of_values] * 5
    return draw(draw(st.sampled_from(kinds))(name, data))


@st.composite
def of_bytes(draw: Any, name: str, data: bytes) -> Change:
    """Other bytes."""
    at = draw(st.integers(0, max(0, len(data) - 1)))
    end = draw(st.integers(at, len(data)))
    other = draw(st.sampled_from(OTHER))
    bit = draw(st.integers(0, 7))
    flipped = bytes([data[at] ^ 1 << bit]) if data else b""
    new = {
        f"bit {bit} of byte {at} flipped": data[:at] + flipped + data[at + 1 :],
        f"cut off at {at}": data[:at],
        f"bytes {at} to {end} deleted": data[:at] + data[end:],
        f"bytes {at} to {end} twice": data[:end] + data[at:],
        f"{other[:6]!r} inserted at {at}": data[:at] + other + data[at:],
        "empty": b"",
        "a pickle": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        "lines reversed": b"".join(data.splitlines(keepends=True)[::-1]),
    }
    what = draw(st.sampled_from([*new]))
    return Change(what, lambda path: path.write_bytes(new[what]))


@st.composite
def of_file(draw: Any, name: str, data: bytes) -> Change:
    """Something else in the place of the file."""

    kinds: dict[str, Callable[[Path], Any]] = {
        "missing": lambda path: None,
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link to a file elsewhere": lambda path: path.symlink_to(path.parents[1] / "elsewhere"),
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "2^40 zeros": lambda path: (path.touch(), os.truncate(path, 2**40)),
    }
    what = draw(st.sampled_from([*kinds]))

    def make(path):
        path.unlink()
        kinds[what](path)

    return Change(what, make, keeps_file=False)


@st.composite
def of_values(draw: Any, name: str, data: bytes) -> Change:
    """Another value in a file with a structure, or one value fewer, or one twice."""
    begin, text, end = _structured(draw, name, data)
    is_toml = name.endswith(".toml")
    tree = tomllib.loads(text) if is_toml else json.loads(text)
    where = draw(st.sampled_from([*_places(tree)]))
    how = draw(st.sampled_from(["replaced", "replaced", "replaced", "deleted", "twice", "renamed"]))
    odd = draw(st.sampled_from(TOML if is_toml else JSON))
    outer = tree
    for key in where[:-1]:
        outer = outer[key]
    if not where:
        tree, how = MARK, "replaced"
    elif how == "replaced":
        outer[where[-1]] = MARK
    elif how == "deleted":
        del outer[where[-1]]
    elif isinstance(outer, list):
        outer.insert(where[-1], outer[where[-1]])
    elif how == "twice":
        outer[f"{where[-1]}_"] = outer[where[-1]]
    else:
        outer["plugin"] = outer.pop(where[-1])
    what = f"{'.'.join(map(str, where))} {how}, {odd:.20}"
    found = json.dumps(tree) if tree == MARK or not is_toml else tomli_w.dumps(tree)
    new = begin + found.replace(f'"{MARK}"', odd).encode("utf-8", "surrogatepass") + end
    if name.endswith(".safetensors"):
        new = struct.pack("<Q", len(new) - len(end)) + new
    return Change(what, lambda path: path.write_bytes(new))


def _structured(draw, name, data):
    """The bytes before the text that has a structure, this text, and the bytes after it."""
    if name.endswith(".safetensors"):
        size = struct.unpack("<Q", data[:8])[0]
        return b"", data[8 : 8 + size].decode(), data[8 + size :]
    if name.endswith(".jsonl") and data:
        lines = data.splitlines(keepends=True)
        n = draw(st.integers(0, len(lines) - 1))
        return b"".join(lines[:n]), lines[n].decode(), b"\n" + b"".join(lines[n + 1 :])
    return b"", data.decode() or "0", b""


def _places(tree: Any, before: tuple = ()) -> Iterator[tuple]:
    """The paths of all values in nested dicts and lists, and () for the whole."""
    yield before
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in entries:
        yield from _places(value, (*before, key))


def sign(run: Path) -> None:
    """Makes the manifest list the files of a run as they are now, as somebody could on purpose.

    One that is too large to be read keeps its entry.
    """
    manifest, files = read_manifest(run), {}
    for name, content in manifest.files.items():
        if (run / name).is_file():
            is_large = (run / name).stat().st_size > LARGE
            files[name] = content if is_large else content_of((run / name).read_bytes())
    write_manifest(run, manifest._replace(files=files))
