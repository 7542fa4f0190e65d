"""Data that were given in memory, in files of the run."""

from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter

from seqjax.array_files.arrays import load_arrays, save_arrays
from seqjax.array_files.saved_file import from_json, read
from seqjax.data.dataset import Data, Pairs, Series, Text
from seqjax.data.spec import Spec
from seqjax.plugin import config
from seqjax.runs.files.folder import DATA


class _Header(NamedTuple):
    """What a file has besides the arrays of the data."""

    form: str
    source: str
    names: list[str]
    spec: dict[str, dict[str, int]] | None


_HEADER = TypeAdapter(_Header)


def encode_data(data: Data) -> bytes:
    """The bytes of a file with data that were given in memory."""
    spec = data.spec.to_dict() if isinstance(data, Pairs) and data.spec else None
    header = _Header(type(data).__name__, data.source, list(getattr(data, "names", ())), spec)
    return save_arrays(data.arrays | {"bounds": data.bounds}, header._asdict())


def read_data(path: Path, field: str, sha256: str) -> Data:
    """The data that were given in memory as this field of the experiment; an `Error` unless they have this hash."""

    def parse(file):
        arrays, text = load_arrays(file)
        header, bounds = from_json(_HEADER, text), arrays["bounds"]
        data: Data
        if header.form == "Text":
            data = Text(arrays["text"].tobytes().decode("utf-8", "surrogatepass"), header.source, bounds)
        elif header.form == "Series":
            data = Series(arrays["values"], header.names, header.source, bounds)
        else:
            spec = Spec.from_dict(header.spec or {})
            data = Pairs(arrays["inputs"], arrays["targets"], arrays.get("mask"), spec, bounds, header.source)
        if data.sha256 != sha256:
            raise ValueError(f"its sha256 is not {sha256}")
        return data

    return read(path / DATA[field], parse)


def with_data(kept: config.Config, path: Path) -> config.Config:
    """The config with data that were given in memory, which are read from the folder."""
    whole = dict(kept)
    for field in DATA:
        table = kept.get(field)
        if isinstance(table, dict) and table.get("plugin") == config.IN_MEMORY:
            whole[field] = read_data(path, field, str(table.get("sha256")))
    return whole
