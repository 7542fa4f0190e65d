"""Writes and reads the parameters of a run: a safetensors file with a hash, bound to the files of the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqjax.errors import Error
from seqjax.files import write
from seqjax.gradients.problem import Params
from seqjax.runs.arrays import as_tree, by_name, load_arrays, save_arrays, sha256_of
from seqjax.runs.binding import check_binding
from seqjax.runs.folder import PARAMS, read


def write_params(
    path: Path, params: Params, bound: dict[str, str], file: str = PARAMS, epoch: int | None = None
) -> None:
    """Writes parameters of a run: a safetensors file with a hash and the hashes of `binding`.

    A leaf's name is its path in the nested dict, `outer/inner`.

    Args:
        path: the folder of the run.
        params: the parameters.
        bound: the hashes of `binding`.
        file: `PARAMS` or `BEST`.
        epoch: the epoch after which the run had them; None: the last one.
    """
    arrays = by_name(params)
    write(path / file, save_arrays(arrays, {"sha256": sha256_of(arrays), "binding": bound, "epoch": epoch}))


def read_params(path: Path, like: Params | None, file: str = PARAMS, epoch: int | None = None) -> Params:
    """Parameters of the run in a folder.

    Args:
        path: the folder of the run.
        like: their structure; None: a nested dict.
        file: `PARAMS` or `BEST`.
        epoch: the epoch whose parameters they must be; None: the last one.
    """
    arrays = check_params(path, file, [epoch])
    return read(path / file, lambda _: as_tree(arrays, like))


def check_params(path: Path, file: str, epochs: Sequence[int | None]) -> dict[str, np.ndarray]:
    """The arrays in a file of parameters of the run in a folder.

    Args:
        path: the folder of the run.
        file: `PARAMS` or `BEST`.
        epochs: the parameters must be those of one of these epochs; None: the last one.

    Raises:
        Error: exit code 4: the file is damaged, or has parameters of another run or another epoch.
    """
    arrays, header = read_arrays(path, file)
    check_binding(path, header["binding"], file)
    if header["epoch"] not in epochs:
        raise Error(
            f"{path / file}: it has the parameters after epoch {header['epoch']}, and not after epoch {epochs[0]}\n"
            "No file was touched. Restore the old files, or train in another folder",
            exit_code=4,
        )
    return arrays


def read_arrays(path: Path, file: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and the header of a file of parameters, `PARAMS` or `BEST`, which may be those of another run."""

    def parse(data):
        arrays, header = load_arrays(data)
        if header["sha256"] != sha256_of(arrays):
            raise ValueError("its hash is not that of its arrays")
        return arrays, {name: header[name] for name in ("binding", "epoch")}

    found: tuple[dict[str, np.ndarray], dict[str, Any]] = read(path / file, parse)
    return found
