"""`read_file`: reads a file that the user named."""

from pathlib import Path

from seqjax.errors import Error


def read_file(path: str | Path, dataset: str) -> bytes:
    """The bytes of a file that a dataset was given as its field `path`.

    Args:
        path: the path.
        dataset: the name of the dataset, for messages.

    Raises:
        Error: the file cannot be read; it may not be read (exit code 6).
    """
    try:
        return Path(path).read_bytes()
    except PermissionError as fault:
        raise Error(f"dataset {dataset}: {path} may not be read: {fault.strerror}", exit_code=6) from fault
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise Error(
            f"dataset {dataset}: {str(path)!r} cannot be read from the folder {Path.cwd()}: {reason}\n"
            "Check the field path (--dataset.path)"
        ) from fault
