"""Datasets that are wrong. `wrong` is told which checks must find it."""

import contextlib
import socket
from typing import Annotated

import numpy as np
from annotated_types import Interval
from support.wrong import wrong

import seqjax
from seqjax import Pairs, Series, Text

WORDS = ["the", "rain", "fell", "in", "torrents", "and", "the", "wind", "swept", "up", "the", "streets", "of", "london"]
LONG = np.arange(2000.0)


@wrong("dataset", "load")
class OneEntry(seqjax.Dataset):
    """There is nothing to train on."""

    def load(self):
        return Text("x")


@wrong("dataset", "two loads are equal", "two processes are equal")
class OtherNoiseEachTime(seqjax.Dataset):
    """Its generator has no seed."""

    of_values = True

    def load(self):
        return Series(np.random.default_rng().normal(size=2000))


@wrong("dataset", "two processes are equal")
class OrderOfASet(seqjax.Dataset):
    """Its words come in the order of a set."""

    def load(self):
        return Text(" ".join(set(WORDS)) * 50)


@wrong("dataset", "no network for a copy")
class AsksEachTime(seqjax.Dataset):
    """It looks up a host at every load."""

    of_values = True

    def load(self):
        with contextlib.suppress(OSError):
            socket.getaddrinfo("localhost", 80)
        return Series(LONG)


@wrong("dataset", "spec and mask")
class NothingScored(seqjax.Dataset):
    """Its mask is the wrong way round."""

    of_values = True

    def load(self):
        return Pairs(LONG, LONG, mask=np.zeros(2000, bool))


@wrong("dataset", "spec and mask")
class AsManyIdsAsOccur(seqjax.Dataset):
    """The number of ids is that of those that occur, so that it depends on the seed."""

    seed: Annotated[int, Interval(ge=0)] = 0
    """The seed."""

    def load(self):
        x = np.random.default_rng(self.seed).geometric(0.01, 2000)
        return Pairs(x, x)


@wrong("dataset", "floor and chance")
class ChanceInBits(seqjax.Dataset):
    """Its chance level is in bits, and not in nats."""

    chance = 3.0

    def load(self):
        return Pairs(LONG, np.random.default_rng(0).integers(8, size=2000))


@wrong("dataset", "floor and chance")
class FloorAboveChance(seqjax.Dataset):
    """Its floor is the standard deviation of the noise, and not the variance."""

    floor, chance, of_values = 0.5, 0.25, True

    def load(self):
        return Series(np.random.default_rng(0).normal(scale=0.5, size=2000))


@wrong("dataset", "the defaults train")
class TooShortForTheDefaults(seqjax.Dataset):
    """It has 100 steps, and the default sampler needs 1,120."""

    of_values = True

    def load(self):
        return Series(LONG[:100])


@wrong("dataset", "the defaults train")
class ValuesWithoutAWord(seqjax.Dataset):
    """Its targets are values, and the default optimizer is the one for tokens."""

    def load(self):
        return Series(LONG)
