"""Plugins that break a rule of every plugin. `wrong` is told which checks must find it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import optax
from annotated_types import Ge, Interval
from support.wrong import wrong

import seqjax


class Base(seqjax.Optimizer):
    """A correct optimizer without fields, from which the others are derived."""

    def build(self, num_updates):
        return optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)


@seqjax.register("optimizer", "compared-by-identity")
@dataclass(frozen=True, eq=False)
class ComparedByIdentity(Base):
    """Equal instances are not equal."""

    rejected_by: ClassVar = {"equal instances", "can be copied", "TOML and back"}


@wrong("optimizer", "equal instances")
class AnotherHash(Base):
    """Equal instances have different hashes."""

    def __hash__(self):
        return id(self)


def made_in_a_function():
    @seqjax.register("optimizer", "made-in-a-function")
    @dataclass(frozen=True)
    class MadeInAFunction(Base):
        """Pickle cannot find its class."""

        rejected_by: ClassVar = {"can be copied"}


made_in_a_function()


@wrong("optimizer", "equal instances", "TOML and back")
class ComputesItsField(Base):
    """Its field is changed when it is made."""

    rate: Annotated[float, Interval(gt=0)] = 0.1
    """The rate."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "rate", self.rate / 2)


@wrong("optimizer", "command line and back")
class CommasInTexts(Base):
    """The command line cannot tell its commas from those between its texts."""

    marks: tuple[str, ...] = (",", ";")
    """The marks."""


@wrong("optimizer", "fields are checked")
class ChecksTypesAlone(Base):
    """It takes values below the bound of a field that may be None."""

    limit: Annotated[int, Ge(1)] | None = None
    """The limit."""

    def __post_init__(self):
        if not isinstance(self.limit, int | None):
            raise seqjax.Error("limit is an int, or None")


@wrong("optimizer", "documented")
class NoSummary(Base):
    pass


@wrong("optimizer", "documented")
class FieldWithoutADocstring(Base):
    """Nothing says what its field is."""

    rate: Annotated[float, Interval(gt=0)] = 0.1
