"""Datasets of the Hugging Face hub, and files and folders that its library `datasets` reads."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqjax import Dataset, Error, Text, register
from seqjax.data import MappedText, is_large, make_piece
from seqjax.errors import few, nearest
from seqjax.extras import needing
from seqjax.user_cache import file_key, hash_of, remembered

READERS = {".txt": "text", ".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}


@register("dataset", "hf-dataset")
@dataclass(frozen=True)
class HFDataset(Dataset):
    """A text column of a Hugging Face dataset; each record is a document.

    Datasets are read with the library `datasets`, which caches downloaded and converted data (`$HF_HOME`). No code of a
    dataset is run.
    """

    also_called = (
        "hf",
        "huggingface",
        "wikitext",
        "wikitext-2",
        "wikitext-103",
        "ptb",
        "imdb",
        "tiny-shakespeare",
        "c4",
    )
    extra = "data"

    path: str
    """A name on the hub such as `user/name`; a file (.txt, .csv, .json, .jsonl, .parquet), where each line of a .txt
    file is a record, with its line end; or a folder made by `save_to_disk`."""
    config: str | None = None
    """The configuration of a dataset on the hub; None: its only one."""
    split: str = "train"
    """The split, or a part of it like `train[:1000]`; a folder has whole splits only. A file is the split `train`."""
    column: str = "text"
    """The column."""
    revision: str | None = None
    """The commit or tag of a dataset on the hub; None: the newest."""

    def load(self):
        """The text of all records, in order."""
        with needing(self.extra, "dataset hf-dataset"):
            import datasets
        try:
            with _quiet(datasets):
                dataset = self._read(datasets)
        except MemoryError:
            raise
        # The library raises any exception for a damaged folder, such as KeyError and TypeError.
        except Exception as fault:
            raise self._unreadable(fault) from fault
        if (text := self._mapped(dataset)) is not None:
            return text
        records = self._column(dataset)
        bounds = np.cumsum([0, *map(len, records)], dtype=np.int64)
        if not bounds[-1]:
            raise Error(f"dataset hf-dataset: column {self.column!r} of {self.path} is empty")
        return Text("".join(records), self.path, bounds)

    def _read(self, datasets):
        """The split as a `datasets.Dataset` of the library, which is given."""
        path = Path(self.path)
        if path.is_dir():
            loaded = datasets.load_from_disk(self.path)
            splits = loaded if isinstance(loaded, dict) else {str(loaded.split or "train"): loaded}
            if self.split not in splits:
                raise ValueError(f"there is no split {self.split!r}{nearest(self.split, splits)} in {sorted(splits)}")
            return splits[self.split]
        if path.is_file():
            if path.suffix.lower() not in READERS:
                raise ValueError(f"the file's name must end in one of {', '.join(READERS)}")
            reader = READERS[path.suffix.lower()]
            options = {"keep_linebreaks": True} if reader == "text" else {}
            return datasets.load_dataset(reader, data_files=self.path, split=self.split, **options)
        return datasets.load_dataset(self.path, self.config, split=self.split, revision=self.revision)

    def _mapped(self, dataset):
        """The text of a large dataset, which stays in the Arrow files; None: it is read into memory."""
        files = [file["filename"] for file in dataset.cache_files]
        is_text = getattr(dataset.features.get(self.column), "dtype", None) in ("string", "large_string")
        if not is_text or not is_large(*files):
            return None
        column = dataset.with_format("arrow")[:].column(self.column)
        if column.null_count:
            return None  # reading finds the record
        chunks = map(_bytes, filter(len, column.chunks))
        pieces = [make_piece(data, at, f"column {self.column!r}") for data, at in chunks]
        key = hash_of(self.column, self.split, len(dataset), *map(file_key, files))
        text = MappedText(pieces, self.path, key)
        return MappedText(pieces, self.path, key, remembered("texts", hash_of(key, "sha256"), lambda: text.sha256))

    def _column(self, dataset):
        """The records of the column."""
        if self.column not in dataset.column_names:
            fault = f"there is no column {self.column!r}{nearest(self.column, dataset.column_names)}"
        elif getattr(dataset.features[self.column], "dtype", None) not in ("string", "large_string"):
            fault = f"column {self.column!r} is not text"
        else:
            records = list(dataset[self.column])
            if None not in records:
                return records
            raise Error(
                f"dataset hf-dataset: {self.path}: record {records.index(None)} of column {self.column!r} is missing\n"
                "Drop or fill such records, and read the rest from a file or a folder made by save_to_disk"
            )
        kinds = (f"{name} ({getattr(kind, 'dtype', kind)})" for name, kind in dataset.features.items())
        raise Error(
            f"dataset hf-dataset: {self.path}: {fault}\nIts columns: {few(kinds)}; "
            "choose one of type string with --dataset.column"
        )

    def _unreadable(self, fault):
        what = fault if isinstance(fault, OSError | ValueError | RuntimeError) else repr(fault)
        reason = f"dataset hf-dataset: {self.path!r} cannot be read: {what}"
        if fault.__cause__ is not None:
            reason += f" ({fault.__cause__})"
        if Path(self.path).exists():
            hint = "Check the fields path and split (--dataset.path, --dataset.split)"
        else:
            name, which = Path(self.path).name, ", ".join(repr(part) for part in (self.path, self.config) if part)
            hint = (
                f"There is no such file or folder in {Path.cwd()}, and the hub did not send it. "
                "Check --dataset.path, --dataset.config and --dataset.split; or type, on a machine with a network,\n"
                f'  python -c "import datasets; datasets.load_dataset({which}).save_to_disk({name!r})"\n'
                f"and copy the folder to this machine: --dataset hf-dataset --dataset.path {name}"
            )
        return Error(f"{reason}\n{hint}", exit_code=6 if isinstance(fault, PermissionError) else 2)


def _bytes(chunk):
    """The UTF-8 bytes of an Arrow array of strings, and where its strings begin and end among them, without a copy."""
    _, offsets, data = chunk.buffers()
    wide = str(chunk.type) == "large_string"
    at = np.frombuffer(offsets, np.int64 if wide else np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    characters = np.frombuffer(data or b"", np.uint8)[at[0] : at[-1]]
    return characters, at.astype(np.int64) - at[0]


@contextlib.contextmanager
def _quiet(datasets):
    """Turns the library's progress bars and messages off; its exceptions say what is wrong."""
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
