"""Checks of a dataset: every load gives the same data, from which a model can be trained."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np

from seqjax.data.dataset import Data, Dataset, Pairs
from seqjax.data.preparing import load
from seqjax.data.sampler import draw_plan
from seqjax.data.spec import Values
from seqjax.plugin.base import values_of
from seqjax.runs.run import Experiment
from seqjax.runs.settings import create_default
from seqjax.testing.compare import Failed
from seqjax.testing.line import Check, Found
from seqjax.testing.process import in_another_process

SEEDS = (1, 2, 3)
"""Seeds with which the spec of a dataset is compared."""
BLOCKS, TOLERANCE = 20, 6.0
"""The number of blocks whose mean losses give the standard error of a loss, and how many such errors are allowed."""


def checks(dataset: Dataset) -> Sequence[Check]:
    """The checks of a dataset; the first one is that it loads."""
    return CHECKS


def check_load(dataset: Dataset) -> Found:
    """Checks that `load` returns data, and that their documents cover all entries."""
    data = load(dataset)
    if len(data) < 2:
        raise Failed(f"load returns {len(data)} {data.unit}, and training needs at least 2")
    return Found(note=repr(data))


def check_deterministic(dataset: Dataset) -> Found:
    """Checks that two loads give equal data."""
    first, second = load(dataset), load(dataset)
    if first.sha256 != second.sha256:
        raise Failed(f"two loads differ, {_difference(first, second)}")
    return Found()


def check_processes(dataset: Dataset) -> Found:
    """Checks that another process, in which strings have other hashes, loads equal data."""
    there = in_another_process(dataset, "hash_of_data")
    if there != load(dataset).sha256:
        raise Failed("another process, in which strings have other hashes, loads other data")
    return Found()


def check_copy(dataset: Dataset) -> Found:
    """Checks that a second load needs no network."""
    load(dataset)
    with _no_network() as asked:
        try:
            load(dataset)
        except Exception as fault:
            if asked:
                raise Failed(f"a second load asks for the host {asked[0]}, and fails without a network") from fault
            raise
    if asked:
        raise Failed(f"a second load asks for the host {asked[0]}")
    return Found()


def check_spec(dataset: Dataset) -> Found:
    """Checks that some target is scored, and that the spec is the same for every seed."""
    data = load(dataset)
    if not isinstance(data, Pairs):
        return Found()
    if data.mask is not None and not data.mask.any():
        raise Failed("the mask is False everywhere, so that no target is scored")
    values = values_of(dataset)
    for seed in SEEDS if "seed" in values else ():
        other = load(type(dataset)(**values | {"seed": seed}))
        if isinstance(other, Pairs) and other.spec != data.spec:
            raise Failed(f"the spec is {data.spec}, and with seed = {seed} it is {other.spec}")
    return Found(note=str(data.spec))


def check_levels(dataset: Dataset) -> Found:
    """Checks that the best constant prediction on the data has the loss `chance`, and that `floor` is not above it."""
    if dataset.chance is None:
        return Found(note="none is given")
    if dataset.floor is not None and not 0 <= dataset.floor <= dataset.chance + 1e-12:
        raise Failed(f"the floor {dataset.floor:.4g} must lie between 0 and the chance level {dataset.chance:.4g}")
    losses = _constant_losses(dataset)
    # The losses of neighbouring steps may depend on each other: the means of 20 blocks give the error of their mean.
    blocks = [block.mean() for block in np.array_split(losses, BLOCKS)]
    error, allowed = abs(losses.mean() - dataset.chance), TOLERANCE * float(np.std(blocks)) / BLOCKS**0.5
    if not error <= allowed + 0.01 * dataset.chance:  # NaN is wrong, too
        raise Failed(f"a constant prediction has the loss {losses.mean():.4g}, and chance is {dataset.chance:.4g}")
    return Found(note=f"floor {dataset.floor}, chance {dataset.chance:.4g}, on the data {losses.mean():.4g}")


def _constant_losses(dataset: Dataset) -> np.ndarray:
    """The loss of the best constant prediction at each scored step of the data."""
    prepared = Experiment(dataset=dataset, train=1.0, heldout=0).prepare()
    stream = prepared.streams["train"]
    targets = np.asarray(stream.targets)
    scored = targets if stream.mask is None else targets[np.asarray(stream.mask)]
    if isinstance(prepared.spec.targets, Values):
        return np.square(scored - scored.mean(0)).mean(1)
    return -np.log(np.bincount(scored)[scored] / len(scored))  # only of ids that occur, since others have no logarithm


def check_trained(dataset: Dataset) -> Found:
    """Checks that the data can be split, encoded, and cut into windows by the defaults for their kind."""
    sampler = create_default("sampler", dataset)
    prepared = Experiment(dataset=dataset).prepare()
    if dataset.of_values != (has_values := isinstance(prepared.spec.targets, Values)):
        raise Failed(
            f"of_values is {dataset.of_values}, and the targets are {prepared.spec.targets}: set it to {has_values}"
        )
    plan = draw_plan(sampler, prepared.streams["train"].bounds, 0, 0)
    return Found(note=f"{len(plan.starts):,} batches an epoch, {prepared.spec}")


CHECKS = (
    Check("load", check_load, "load returns a Text, a Series or Pairs of at least two entries"),
    Check(
        "two loads are equal", check_deterministic,
        "draw random numbers from a generator that is made in load, np.random.default_rng(self.seed)",
    ),
    Check(
        "two processes are equal", check_processes,
        "the order of a set, and hash(text), differ from process to process: sort, and use hashlib",
    ),
    Check(
        "no network for a copy", check_copy,
        "keep what was downloaded, as seqjax.data.download does",
    ),
    Check(
        "spec and mask", check_spec,
        "the mask of Pairs is True where a target counts; give Pairs a spec, such as Spec(Tokens(6)), since otherwise "
        "the number of ids is the largest id plus one",
    ),
    Check(
        "floor and chance", check_levels,
        "chance is the loss of the best prediction that is the same at all scored steps, in nats for tokens, as a mean "
        "squared error for values; leave it None if it is not known",
    ),
    Check(
        "the defaults train", check_trained,
        "training starts with the shares .9 and .1 and the default sampler: for short data, set the class attribute "
        'sampler_fields, such as {"batch_size": 8, "num_steps": 10}',
    ),
)  # fmt: skip


def _difference(first: Data, second: Data) -> str:
    """Where two loads differ, in words."""
    if type(first) is not type(second) or len(first) != len(second):
        return f"{first!r} and {second!r}"
    parts = [name for name, array in first.arrays.items() if not np.array_equal(array, second.arrays[name])]
    return f"in their {', '.join(parts) or 'bounds'}"


@contextlib.contextmanager
def _no_network() -> Iterator[list[Any]]:
    """Refuses to look up hosts, and lists the hosts that are asked for."""
    asked: list[Any] = []

    def refuse(host, *args, **kwargs):
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no network during this check")

    connect = socket.socket.connect

    def refuse_connection(self, address):
        if not isinstance(address, tuple):  # a socket of this machine, with which processes talk
            return connect(self, address)
        return refuse(address[0])

    with mock.patch("socket.getaddrinfo", refuse), mock.patch("socket.socket.connect", refuse_connection):
        yield asked
