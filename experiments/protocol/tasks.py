"""The tasks of the referee: datasets with floors, cut into the windows of a run."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import numpy as np

import seqjax as sj
from seqjax.cli.flags import read_plugins
from seqjax.datasets import Add, AnBn, CuedCopy, Digits
from seqjax.samplers import Sentences, Sequential


class Feed(NamedTuple):
    """The data of a run, which are the same for all strategies with the same seed.

    Args:
        xs: what the steps read, leaves [U, T, B, ...].
        weights: float32[U, T, B], the weights of the losses, which sum to 1 in each update.
        reset: bool[U, B], whether a sequence starts with a window.
    """

    xs: Any
    weights: Any
    reset: Any


class Task(Protocol):
    """What is learned.

    Attributes:
        is_diagnostic: whether its scores stand beside the others, and are in no mean.
        floor: the lowest loss of a model, or a number below it.
        chance: the lowest loss of a constant prediction; None: there is none.
        has_model: whether it trains a model; otherwise it is a problem of its own.
        window: T, the steps of a window. There is one update for each window.
        rows: B, the windows of an update.
    """

    window: int
    rows: int
    is_diagnostic: bool
    has_model: bool

    @property
    def floor(self) -> float: ...

    @property
    def chance(self) -> float | None: ...

    def problem(self, model: Any) -> Any:
        """The problem that is trained; its `init` makes the initial parameters."""

    def feed(self, seed: int, updates: int) -> Feed:
        """The data of a run."""


@dataclass(frozen=True)
class OnDataset:
    """A dataset that is read in windows.

    Attributes:
        dataset: at its defaults; its length and its seed are set for each run.
        window: T, the steps of a window. There is one update for each window.
        rows: B, the windows of an update.
    """

    dataset: sj.Dataset
    window: int = 32
    rows: int = 16

    is_diagnostic: ClassVar[bool] = False
    has_model: ClassVar[bool] = True

    @property
    def floor(self) -> float:
        """That of the dataset; 0 if it is not known, or if each seed has another one, so that its runs share none."""
        has_seed = any(field.name == "seed" for field in dataclasses.fields(self.dataset))
        seeds = [dataclasses.replace(self.dataset, seed=seed) for seed in (1, 2)] if has_seed else []
        floors = {dataset.floor for dataset in (self.dataset, *seeds)}
        floor = floors.pop() if len(floors) == 1 else None
        return 0.0 if floor is None else floor

    @property
    def chance(self) -> float | None:
        """That of the dataset."""
        return self.dataset.chance

    def problem(self, model: Any) -> Any:
        """The model with the loss of the dataset."""
        return model.problem(self._prepare(self.dataset)[1])

    def feed(self, seed: int, updates: int) -> Feed:
        """The windows of all updates. A dataset that is too short is read again.

        Documents that fit into a window are read one in each row, and start with the initial state. Other data are read
        in `rows` long rows, whose state is carried from window to window.
        """
        T, B = self.window, self.rows
        stream, _ = self._prepare(self._sized(seed, updates))
        fits = np.diff(stream.bounds).max() <= T
        sampler: Any = (Sentences if fits else Sequential)(batch_size=B, num_steps=T)
        rng, plans = np.random.default_rng(seed), []
        while sum(len(plan.starts) for plan in plans) < updates:
            plans.append(sampler.plan(np.asarray(stream.bounds), rng))
        starts_UB, scored_UB2, reset_UB = (np.concatenate(parts)[:updates] for parts in zip(*plans, strict=True))

        step_T1 = np.arange(T)[:, None]
        at_UTB = np.minimum(starts_UB[:, None] + step_T1, len(stream.inputs) - 1)
        scored_UTB = (scored_UB2[:, None, :, 0] <= step_T1) & (step_T1 < scored_UB2[:, None, :, 1])
        if stream.mask is not None:
            scored_UTB &= np.asarray(stream.mask)[at_UTB]
        weights_UTB = scored_UTB / np.maximum(scored_UTB.sum((1, 2), keepdims=True), 1)
        xs = tuple(_narrow(np.asarray(side)[at_UTB]) for side in (stream.inputs, stream.targets))
        return Feed(xs, weights_UTB.astype(np.float32), reset_UB)

    def _sized(self, seed: int, updates: int) -> sj.Dataset:
        """The dataset with this seed, and long enough for all updates if its length can be chosen."""
        known = {field.name for field in dataclasses.fields(self.dataset)}
        steps = (updates + 1) * self.window
        fields = {"seed": seed, "num_sequences": updates * self.rows, "num_steps": steps * self.rows}
        if "num_series" in known:
            fields |= {"num_series": self.rows, "num_steps": steps + 1}
        return dataclasses.replace(self.dataset, **{name: value for name, value in fields.items() if name in known})

    def _prepare(self, dataset: sj.Dataset) -> tuple[Any, sj.Spec]:
        prepared = sj.Experiment(dataset=dataset, train=1.0, heldout=0).prepare()
        return prepared.streams["train"], prepared.spec


@dataclass(frozen=True)
class InfluenceBalancing:
    """A linear system with one parameter, whose gradient has the wrong sign unless it reaches back 41 steps.

    The parameter starts from U(.45, .55); it has no data, and no model is used. One parameter feeds all units, so that
    approximations which are different for a network are the same here.
    """

    window: int = 150
    floor: ClassVar[float] = 0.0
    chance: ClassVar[float | None] = None
    is_diagnostic: ClassVar[bool] = True
    has_model: ClassVar[bool] = False
    rows: ClassVar[int] = 1

    def problem(self, model: Any) -> Any:
        """That of `sj.testing`, with initial parameters."""
        inner = sj.testing.influence_balancing()
        return _WithInit(inner.step, inner.init_state)

    def feed(self, seed: int, updates: int) -> Feed:
        """One row of ones, which count as the factors of the losses."""
        ones = np.ones((updates, self.window, 1), np.float32)
        return Feed((ones, ones), ones / self.window, np.arange(updates)[:, None] == 0)


class _WithInit(sj.Problem):
    """A problem whose parameter is drawn."""

    def init(self, key: jax.Array) -> jax.Array:
        return jax.random.uniform(key, minval=0.45, maxval=0.55)


TASKS: dict[str, Task] = {
    "add": OnDataset(Add(), window=24),
    "an-bn": OnDataset(AnBn(), window=40),
    "cued-copy": OnDataset(CuedCopy(), window=16),
    "permuted-digits": OnDataset(Digits(permuted=True), window=64),
    "influence-balancing": InfluenceBalancing(),
}
"""The tasks of the first question, whose windows cover what they need."""


def read_tasks(names: Sequence[str]) -> dict[str, Task]:
    """The tasks of these names: those of all editions, or datasets such as `dyck` or `dyck:kinds=3`.

    Raises:
        Error: a name is neither; a dataset lacks a field.
    """
    others = [name for name in names if name not in TASKS]
    try:
        datasets = read_plugins("dataset", others, flag="tasks")
    except sj.Error as fault:
        raise sj.Error(f"{fault}\na task is a dataset, or one of: {', '.join(TASKS)}") from fault
    found = {}
    for name in names:
        if name in TASKS:
            found[name] = TASKS[name]
        else:
            window = dict(datasets[name].sampler_fields).get("num_steps", OnDataset.window)
            found[name] = OnDataset(datasets[name], window=window)
    return found


def _narrow(values: np.ndarray) -> np.ndarray:
    """Real numbers in single precision; ids as they are."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values
