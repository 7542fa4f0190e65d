"""Plugins that break a rule of every plugin. `rejected_by` names the check that must find it."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import optax
from annotated_types import Ge, Interval

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


@seqjax.register("optimizer", "another-hash")
@dataclass(frozen=True)
class AnotherHash(Base):
    """Equal instances have different hashes."""

    rejected_by: ClassVar = {"equal instances"}

    def __hash__(self):
        return id(self)


def made_in_a_function():
    @seqjax.register("optimizer", "made-in-a-function")
    @dataclass(frozen=True)
    class MadeInAFunction(Base):
        """Pickle cannot find its class."""

        rejected_by: ClassVar = {"can be copied"}


made_in_a_function()


@seqjax.register("optimizer", "computes-its-field")
@dataclass(frozen=True)
class ComputesItsField(Base):
    """Its field is changed when it is made."""

    rejected_by: ClassVar = {"equal instances", "TOML and back"}
    rate: Annotated[float, Interval(gt=0)] = 0.1
    """The rate."""

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "rate", self.rate / 2)


@seqjax.register("optimizer", "read-as-a-number")
@dataclass(frozen=True)
class ReadAsANumber(Base):
    """The command line reads its text as a number."""

    rejected_by: ClassVar = {"command line and back"}
    name: int | str = "7"
    """The name."""


@seqjax.register("optimizer", "commas-in-texts")
@dataclass(frozen=True)
class CommasInTexts(Base):
    """The command line cannot tell its commas from those between its texts."""

    rejected_by: ClassVar = {"command line and back"}
    marks: tuple[str, ...] = (",", ";")
    """The marks."""


@seqjax.register("optimizer", "does-not-check")
@dataclass(frozen=True)
class DoesNotCheck(Base):
    """It takes values out of its range."""

    rejected_by: ClassVar = {"fields are checked"}
    rate: Annotated[float, Interval(gt=0)] = 0.1
    """The rate."""

    def __post_init__(self):
        pass


@seqjax.register("optimizer", "checks-types-alone")
@dataclass(frozen=True)
class ChecksTypesAlone(Base):
    """It takes values below the bound of a field that may be None."""

    rejected_by: ClassVar = {"fields are checked"}
    limit: Annotated[int, Ge(1)] | None = None
    """The limit."""

    def __post_init__(self):
        if not isinstance(self.limit, int | None):
            raise seqjax.Error("limit is an int, or None")


@seqjax.register("optimizer", "no-summary")
@dataclass(frozen=True)
class NoSummary(Base):
    rejected_by: ClassVar = {"documented"}


@seqjax.register("optimizer", "field-without-a-docstring")
@dataclass(frozen=True)
class FieldWithoutADocstring(Base):
    """Nothing says what its field is."""

    rejected_by: ClassVar = {"documented"}
    rate: Annotated[float, Interval(gt=0)] = 0.1
