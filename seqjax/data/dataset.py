"""`Dataset`, a source of data, and the three forms of data in memory: `Text`, `Series`, `Pairs`."""

import collections
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from seqjax.data.sampler import BATCH_SIZE, NUM_STEPS
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.errors import Error, check_type, dtype_shape
from seqjax.plugin.base import Plugin


class Dataset(Plugin):
    """A source of data. The author writes `load`.

    >>> from dataclasses import dataclass
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class Countdown(sj.Dataset):
    ...     start: int = 3
    ...     def load(self):
    ...         return sj.Text(" ".join(map(str, range(self.start, 0, -1))))
    >>> Countdown(start=5).load().text
    '5 4 3 2 1'
    """

    kind: ClassVar[str] = "dataset"
    sampler_fields: ClassVar[Mapping[str, int]] = {}
    """Fields of the default sampler that are changed for this dataset, such as `{"batch_size": 8}` for a short one.

    They apply in an experiment that names no sampler. A class attribute, not a hyper-parameter.
    """

    of_values: ClassVar[bool] = False
    """Whether the targets are values, and not tokens, so that the default optimizer is the one for values.

    A class attribute, not a hyper-parameter.
    """

    @property
    def floor(self) -> float | None:
        """The lowest mean loss that a model can reach on new data, in nats or as a squared error; None: unknown."""
        return None

    @property
    def chance(self) -> float | None:
        """The lowest mean loss of a prediction that is the same at all scored steps; None: unknown."""
        return None

    def load(self) -> "Data":
        """All of the data: a `Text`, a `Series` or `Pairs`."""
        raise NotImplementedError


def sampler_fields_for(steps: int) -> dict[str, int]:
    """Fields of the default sampler for a short series: fewer rows and steps, so that an epoch has about ten batches.

    Args:
        steps: the number of time steps.

    Returns:
        `batch_size`, a power of two, and `num_steps`; empty if the defaults give ten batches.
    """
    num_steps = max(1, min(NUM_STEPS, steps // 20))
    batch_size = min(BATCH_SIZE, 2 ** int(math.log2(max(1, steps / (10 * num_steps)))))
    is_default = (batch_size, num_steps) == (BATCH_SIZE, NUM_STEPS)
    return {} if is_default else {"batch_size": batch_size, "num_steps": num_steps}


class Data(Dataset):
    """Data in memory, divided into documents. A slice `data[first:last]` has the parts of documents that lie in it.

    It is a dataset itself, whose `load` returns it.

    Attributes:
        bounds: int64[D + 1], where the documents begin and end.
        source: where the data came from, for display.
        unit: the name of its entries, for messages.
        in_memory: True: a config has only the hash of the data, and a run keeps a copy of them.
    """

    bounds: Any
    source: str
    unit: ClassVar[str] = "time steps"
    in_memory: ClassVar[bool] = True

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def __getitem__(self, part: slice) -> Self:
        first, last, step = part.indices(len(self)) if isinstance(part, slice) else (0, 0, 0)
        if step != 1:
            raise Error(f"{type(self).__name__}: a part is data[first:last], without a step")
        last = max(first, last)
        inside = self.bounds[(self.bounds > first) & (self.bounds < last)]
        return self._part(first, last, np.concatenate([[first], inside, [last]]) - first)

    def _part(self, first: int, last: int, bounds: np.ndarray) -> Self:
        raise NotImplementedError

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Its contents as arrays, which are written and hashed."""
        raise NotImplementedError

    @functools.cached_property
    def sha256(self) -> str:
        """The hash of its contents. A text of one document has the hash of its UTF-8 file."""
        digest = hashlib.sha256()
        for array in self.arrays.values():
            digest.update(b"" if array.dtype == np.uint8 else f"{array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array))
        if len(self.bounds) != 2:
            digest.update(self.bounds)
        if isinstance(self, Pairs):
            digest.update(str(self.spec).encode())
        return digest.hexdigest()

    def load(self) -> "Data":
        """Returns itself."""
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.sha256 == self.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} {self.unit}, source={self.source!r}, sha256={self.sha256[:8]}…)"

    def _set(self, **fields: Any) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False, repr=False)
class Text(Data):
    """A text in memory; `Experiment(dataset=Text("..."))` works.

    >>> import seqjax as sj
    >>> text = sj.Text("to be, or not to be", bounds=[0, 7, 19])
    >>> text.documents
    ['to be, ', 'or not to be']
    >>> text[3:10].documents
    ['be, ', 'or ']

    Args:
        text: the characters.
        source: where they came from, for display.
        bounds: int64[D + 1], where the documents begin and end in `text`; None: one document.

    Raises:
        Error: `text` is not a string; the bounds do not rise from 0 to its length.
    """

    text: str
    source: str = ""
    bounds: Any = None

    unit = "characters"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise Error(f"Text takes a string, not {type(self.text).__name__}; read a file with the dataset text-file")
        self._set(bounds=_check_bounds(self, len(self.text)))

    def _part(self, first: int, last: int, bounds: np.ndarray) -> "Text":
        return Text(self.text[first:last], self.source, bounds)

    @property
    def documents(self) -> Sequence[str]:
        """The texts of the documents."""
        return [self.text[first:last] for first, last in zip(self.bounds, self.bounds[1:], strict=False)]

    def character_counts(self) -> collections.Counter:
        """How often each character occurs, in order of first occurrence."""
        return collections.Counter(self.text)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The UTF-8 text, uint8[n]."""
        return {"text": np.frombuffer(self.text.encode("utf-8", "surrogatepass"), np.uint8)}


@dataclass(frozen=True, eq=False, repr=False)
class Series(Data):
    """A series of real vectors in memory; `Experiment(dataset=Series(values))` works.

    >>> import seqjax as sj
    >>> series = sj.Series([20.0, 21.5, 19.0], names=["temperature"])
    >>> series.values.shape
    (3, 1)
    >>> series[1:].values.tolist()
    [[21.5], [19.0]]

    Args:
        values: float[n, dim], or float[n] for dim = 1. All must be finite.
        names: the names of the columns, for display.
        source: where the values came from, for display.
        bounds: int64[D + 1], where the documents begin and end; None: one document.

    Raises:
        Error: values that are not finite numbers; another number of names; bounds that do not rise from 0 to n.
    """

    of_values = True

    values: Any
    names: Sequence[str] = ()
    source: str = ""
    bounds: Any = None

    def __post_init__(self) -> None:
        values = _real("Series values", self.values)
        check_type("Series names", self.names, Iterable, "a list of texts")
        names = tuple(map(str, self.names))
        if names and len(names) != values.shape[1]:
            raise Error(f"Series has {values.shape[1]} columns, but {len(names)} names: {', '.join(names)}")
        self._set(values=values, names=names, bounds=_check_bounds(self, len(values)))

    @property
    def sampler_fields(self) -> Mapping[str, int]:  # type: ignore[override]
        """The sampler fields for a short series."""
        return sampler_fields_for(len(self))

    def _part(self, first: int, last: int, bounds: np.ndarray) -> "Series":
        return Series(self.values[first:last], self.names, self.source, bounds)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The values, float64[n, dim]."""
        return {"values": self.values}


@dataclass(frozen=True, eq=False, repr=False)
class Pairs(Data):
    """Inputs and targets in memory: `targets[t]` is predicted after `inputs[t]` was read. Nothing is shifted.

    Examples are the copy task, the add task, tagging, and series with covariates. `Pairs.from_sequences` makes them of
    many sequences.

    >>> import seqjax as sj
    >>> sj.Pairs(inputs=[0, 1, 1, 0], targets=[0.0, 1.0, 2.0, 1.0]).spec
    Spec(inputs=Tokens(size=2), targets=Values(dim=1))
    >>> sj.Pairs.from_sequences([[1.0, 2.0], [3.0]], [[10.0, 20.0], [30.0]]).bounds.tolist()
    [0, 2, 3]

    Args:
        inputs: ids int[n], or float[n, dim] (float[n] for dim = 1).
        targets: the same.
        mask: bool[n], False where a target is not scored; None: all targets are scored.
        spec: the kinds of inputs and targets; None: integers are `Tokens(max + 1)`, reals are `Values(dim)`.
        bounds: int64[D + 1], where the documents begin and end; None: one document.
        source: where they came from, for display.

    Raises:
        Error: sides of different lengths; a side that does not fit `spec`; a mask that is not bool[n]; bounds that do
            not rise from 0 to n.
    """

    inputs: Any
    targets: Any
    mask: Any = None
    spec: Spec | None = None
    bounds: Any = None
    source: str = "pairs"

    def __post_init__(self) -> None:
        if not isinstance(self.spec, Spec | None):
            raise Error(f"Pairs: spec must be Spec(inputs, targets), such as Spec({self.spec!r}), and is {self.spec!r}")
        spec = self.spec or Spec(None, None)  # type: ignore[arg-type]
        inputs, inputs_spec = _side("inputs", self.inputs, spec.inputs)
        targets, targets_spec = _side("targets", self.targets, spec.targets)
        mask = None if self.mask is None else _kept(_array("Pairs mask", self.mask).copy())
        if len(inputs) != len(targets) or (mask is not None and (mask.shape, mask.dtype) != ((len(inputs),), bool)):
            raise Error(
                f"Pairs: {len(inputs)} inputs need as many targets, found {len(targets)}"
                + ("" if mask is None else f", and a mask bool[{len(inputs)}], found {mask.dtype}{list(mask.shape)}")
            )
        self._set(inputs=inputs, targets=targets, mask=mask, spec=Spec(inputs_spec, targets_spec))
        self._set(bounds=_check_bounds(self, len(inputs)))

    @classmethod
    def from_sequences(cls, inputs: Sequence[Any], targets: Sequence[Any], source: str = "pairs") -> "Pairs":
        """Pairs of N sequences, each of which is a document. The sequences may have different lengths.

        Args:
            inputs: N sequences, each int[T], float[T] or float[T, dim]; or one array of them, int[N, T] or float[N, T,
                dim].
            targets: N sequences of the same lengths. Or one target for each sequence, int[N], float[N] or
                float[N, dim], which is predicted after its last step; the other steps are not scored.
            source: where they came from, for display.

        Raises:
            Error: another number of targets; a sequence and its targets have different lengths; no sequence has a step.
        """
        sides = {"inputs": inputs, "targets": targets}
        for name, side in sides.items():
            check_type(f"Pairs.from_sequences: {name}", side, Iterable, "a list of sequences, or one array of them")
        inputs, targets = (
            [_array(f"Pairs.from_sequences: {name}[{n}]", each) for n, each in enumerate(side)]
            for name, side in sides.items()
        )
        lengths = [a.shape[0] if a.ndim else -1 for a in inputs]
        if len(inputs) != len(targets) or not inputs or min(lengths) < 1:
            raise Error(
                f"Pairs.from_sequences takes as many targets as inputs, each of at least one step; found {len(inputs)} "
                f"inputs of the lengths {lengths[:5]}… and {len(targets)} targets"
            )
        bounds = np.cumsum([0, *lengths])
        if all(a.shape[:1] == (n,) for a, n in zip(targets, lengths, strict=True)):
            return cls(_joined("inputs", inputs), _joined("targets", targets), bounds=bounds, source=source)
        if any(a.shape != targets[0].shape or a.ndim > 1 for a in targets):
            n = next(i for i, a in enumerate(targets) if a.shape[:1] != inputs[i].shape[:1])
            raise Error(
                f"Pairs.from_sequences: sequence {n} has inputs of shape {inputs[n].shape} and targets of shape "
                f"{targets[n].shape}; give a target for each step, or one target for each sequence"
            )
        each = np.stack(targets)
        all_targets = np.zeros((bounds[-1], *each.shape[1:]), each.dtype)
        mask = np.zeros(bounds[-1], bool)
        all_targets[bounds[1:] - 1], mask[bounds[1:] - 1] = each, True
        return cls(_joined("inputs", inputs), all_targets, mask, bounds=bounds, source=source)

    @property
    def sampler_fields(self) -> Mapping[str, int]:  # type: ignore[override]
        """The sampler fields for a short series."""
        return sampler_fields_for(len(self))

    @property
    def of_values(self) -> bool:  # type: ignore[override]
        """Whether the targets are values."""
        assert self.spec is not None
        return isinstance(self.spec.targets, Values)

    def _part(self, first: int, last: int, bounds: np.ndarray) -> "Pairs":
        mask = None if self.mask is None else self.mask[first:last]
        return Pairs(self.inputs[first:last], self.targets[first:last], mask, self.spec, bounds, self.source)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The inputs, the targets and the mask."""
        sides = {"inputs": self.inputs, "targets": self.targets}
        return sides if self.mask is None else sides | {"mask": self.mask}


def inputs_only(inputs: Any, spec: Spec) -> Pairs:
    """Pairs of inputs alone, in one document: their targets are zeros, and are not scored.

    Args:
        inputs: ids int[n], float[n, dim] or float[n].
        spec: the kinds of inputs and targets.

    Raises:
        Error: the inputs are not of this spec.
    """
    inputs, _ = _side("inputs", inputs, spec.inputs)
    shape = (len(inputs),) if isinstance(spec.targets, Tokens) else (len(inputs), spec.targets.width)
    zeros = np.zeros(shape, np.int32 if isinstance(spec.targets, Tokens) else np.float64)
    return Pairs(inputs, zeros, np.zeros(len(inputs), bool), spec)


def _check_bounds(data: Any, size: int) -> np.ndarray:
    """Checks the bounds, and returns them as int64[D + 1]."""
    given = _array(f"{type(data).__name__} bounds", [0, size] if data.bounds is None else data.bounds)
    bounds = _kept(given.astype(np.int64) if given.dtype.kind in "biuf" else np.zeros(0, np.int64))
    inside = bounds.ndim == 1 and bounds.size > 1 and bounds[0] == 0 and bounds[-1] == size
    if not inside or (bounds != given).any() or (np.diff(bounds) < 0).any():
        raise Error(f"{type(data).__name__} bounds must rise from 0 to {size}, the number of {data.unit}")
    return bounds


def _kept(array: np.ndarray) -> np.ndarray:
    """The array, made read-only, since its hash is computed once."""
    array.setflags(write=False)
    return array


def _array(name: str, values: Any) -> np.ndarray:
    """The values as an array, which may share their memory."""
    try:
        return np.asarray(values)
    except ValueError as fault:
        raise Error(
            f"{name} must be one array, and its entries have different lengths\n"
            "Pass sequences of different lengths to Pairs.from_sequences(inputs, targets), or join them and pass bounds"
        ) from fault


def _joined(name: str, sequences: list[np.ndarray]) -> np.ndarray:
    """The inputs or the targets of several sequences, one sequence after the other."""
    first, *others = (a.shape[1:] for a in sequences)
    for n, shape in enumerate(others, 1):
        if shape != first:
            raise Error(
                f"Pairs.from_sequences: a step of {name}[{n}] has the shape {list(shape)}, and one of {name}[0] "
                f"{list(first)}; all sequences need the same"
            )
    return np.concatenate(sequences)


def _real(name: str, values: Any) -> np.ndarray:
    """Finite reals as float64[n, dim], a copy."""
    array = _array(name, values)
    if array.dtype.kind not in "biuf" or np.ma.is_masked(values):
        reason = "has masked entries" if np.ma.is_masked(values) else f"is of dtype {array.dtype}"
        raise Error(f"{name} must be real numbers, and this {reason}; convert it, and drop or fill missing values")
    array = array.astype(np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or not array.shape[1]:
        raise Error(f"{name} must be float[n, dim] or float[n], not of shape {array.shape}")
    bad, _ = np.nonzero(~np.isfinite(array))
    if bad.size:
        raise Error(f"{name} must be finite; row {bad[0]} is {array[bad[0]].tolist()}; drop or fill such rows")
    return _kept(array)


def _side(name: str, values: Any, spec: Tokens | Values | None) -> tuple[np.ndarray, Tokens | Values]:
    """The inputs or the targets of pairs, copied, and their side of the spec."""
    array = _array(f"Pairs {name}", values)
    if isinstance(spec, Values) or (spec is None and array.dtype.kind not in "biu"):
        array = _real(f"Pairs {name}", values)
        if spec and spec.width != array.shape[1]:
            raise Error(f"Pairs {name} are of dim {array.shape[1]}, but the spec says {spec}")
        return array, Values(array.shape[1])
    size = spec.width if spec else int(array.max(initial=0)) + 1
    limit = min(size, 2**31 - 1)
    whole = array.dtype.kind in "biu" and array.ndim == 1
    bad = np.flatnonzero((array < 0) | (array >= limit)) if whole else np.zeros(0, int)
    if not whole or bad.size:
        given = f"row {bad[0]} is {array[bad[0]]}" if whole else f"they are {dtype_shape(array)}"
        raise Error(f"Pairs {name} must be ids int[n] from 0 to {limit - 1}; {given}")
    return _kept(array.astype(np.int32)), Tokens(size)
