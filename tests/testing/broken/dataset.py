"""Datasets that are wrong. `rejected_by` names the check that must find it."""

import socket
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

import seqjax
from seqjax import Pairs, Series, Spec, Text, Tokens

WORDS = ["the", "rain", "fell", "in", "torrents", "and", "the", "wind", "swept", "up", "the", "streets", "of", "london"]
LONG = np.arange(2000.0)


@seqjax.register("dataset", "returns-a-string")
@dataclass(frozen=True)
class ReturnsAString(seqjax.Dataset):
    """It returns a string, and no Text."""

    rejected_by: ClassVar = {"load"}

    def load(self):
        return "the rain fell in torrents " * 100


@seqjax.register("dataset", "one-entry")
@dataclass(frozen=True)
class OneEntry(seqjax.Dataset):
    """There is nothing to train on."""

    rejected_by: ClassVar = {"load"}

    def load(self):
        return Text("x")


@seqjax.register("dataset", "other-noise-each-time")
@dataclass(frozen=True)
class OtherNoiseEachTime(seqjax.Dataset):
    """Its generator has no seed."""

    rejected_by: ClassVar = {"two loads are equal", "two processes are equal"}
    of_values = True

    def load(self):
        return Series(np.random.default_rng().normal(size=2000))


@seqjax.register("dataset", "order-of-a-set")
@dataclass(frozen=True)
class OrderOfASet(seqjax.Dataset):
    """Its words come in the order of a set."""

    rejected_by: ClassVar = {"two processes are equal"}

    def load(self):
        return Text(" ".join(set(WORDS)) * 50)


@seqjax.register("dataset", "asks-each-time")
@dataclass(frozen=True)
class AsksEachTime(seqjax.Dataset):
    """It looks up a host at every load."""

    rejected_by: ClassVar = {"no network for a copy"}
    of_values = True

    def load(self):
        try:
            socket.getaddrinfo("localhost", 80)
        except OSError:
            return Series(LONG)
        return Series(LONG)


@seqjax.register("dataset", "nothing-scored")
@dataclass(frozen=True)
class NothingScored(seqjax.Dataset):
    """Its mask is the wrong way round."""

    rejected_by: ClassVar = {"spec and mask"}
    of_values = True

    def load(self):
        return Pairs(LONG, LONG, mask=np.zeros(2000, bool))


@seqjax.register("dataset", "as-many-ids-as-occur")
@dataclass(frozen=True)
class AsManyIdsAsOccur(seqjax.Dataset):
    """The number of ids is that of those that occur, so that it depends on the seed."""

    rejected_by: ClassVar = {"spec and mask"}
    seed: Annotated[int, Interval(ge=0)] = 0
    """The seed."""

    def load(self):
        x = np.random.default_rng(self.seed).geometric(0.01, 2000)
        return Pairs(x, x)


@seqjax.register("dataset", "too-short-for-the-defaults")
@dataclass(frozen=True)
class TooShortForTheDefaults(seqjax.Dataset):
    """It has 100 steps, and the default sampler needs 1,120."""

    rejected_by: ClassVar = {"the defaults train"}
    of_values = True

    def load(self):
        return Series(LONG[:100])


@seqjax.register("dataset", "wrong-field-of-the-sampler")
@dataclass(frozen=True)
class WrongFieldOfTheSampler(seqjax.Dataset):
    """Its `sampler_fields` name a field that the sampler lacks."""

    rejected_by: ClassVar = {"the defaults train"}
    sampler_fields: ClassVar = {"batch": 8}

    def load(self):
        return Pairs(np.arange(2000) % 5, np.arange(2000) % 5, spec=Spec(Tokens(5)))


@seqjax.register("dataset", "values-without-a-word")
@dataclass(frozen=True)
class ValuesWithoutAWord(seqjax.Dataset):
    """Its targets are values, and the default optimizer is the one for tokens."""

    rejected_by: ClassVar = {"the defaults train"}

    def load(self):
        return Series(LONG)
