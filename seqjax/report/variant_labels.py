"""`variant_labels`: the labels of the variants of a sweep, without what they share."""

import ast
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from seqjax.errors import counted, escape
from seqjax.plugin.config import describe

DASHES = ("-", "--", "-.", ":")
"""The line styles, one for each value of the second way in which variants differ."""
KINDS = ("dataset", "tokenizer", "sampler", "model", "gradient", "optimizer")
"""The fields of an experiment whose values are plugins, whose names need no field in front of them."""
SHORT = {"learning_rate": "lr", "learning-rate": "lr"}
"""The fields that have a shorter word of their own."""


class Labels(NamedTuple):
    """The labels of several variants.

    Args:
        shared: what all variants have in common, in words.
        short: the label of each variant, without what all have in common.
        factors: where variants differ in two ways, the label of each variant in the first, which is shown by a colour,
            and in the second, which is shown by a line style; None: they differ in one way, or in too many.
    """

    shared: tuple[str, ...]
    short: tuple[str, ...]
    factors: tuple[tuple[str, ...], tuple[str, ...]] | None


def variant_labels(names: Sequence[str]) -> Labels:
    """The labels of variants such as `"full, optimizer.learning_rate=0.5"`: here `"full, learning_rate=0.5"`.

    Names and values stay as they were given; only the path of a field is left out, and the kind of a plugin.
    """
    # A comma in parentheses belongs to a value, such as (1, 2).
    split = [re.split(r", (?![^()]*\))", name) for name in names]
    if len(set(map(len, split))) > 1:
        return Labels((), tuple(", ".join(map(_without_path, parts)) for parts in split), None)
    columns = [tuple(map(_without_path, parts)) for parts in zip(*split, strict=True)]
    varied = [column for column in columns if len(set(column)) > 1]
    shared = tuple(readable(column[0]) for column in columns if len(set(column)) == 1 and column[0])
    return Labels(shared, _joined(varied, len(names)), _factors(varied, len(names)))


def shared_plugins(experiments: Sequence[Any]) -> list[str]:
    """What all experiments share of their dataset, model, gradient strategy, windows and optimizer."""
    shared: list[str] = []
    for kind in ("dataset", "model", "gradient", "optimizer"):
        plugins = [getattr(experiment, kind) for experiment in experiments]
        if len(set(map(repr, plugins))) == 1 and plugins[0] is not None:
            shared.append(_describe(plugins[0]))
        # How far a gradient reaches back is limited by its window. A count-based model has neither.
        if kind == "gradient" and None not in plugins:
            lengths = {experiment.sampler.num_steps for experiment in experiments}
            shared += [f"windows of {counted(length, 'step')}" for length in lengths if len(lengths) == 1]
    return shared


def readable(text: str) -> str:
    """The text of a plugin for people: `"truncated:steps=5"` or `"truncated steps=5"` as "truncated, steps 5".

    A text that begins with a field, such as `"k1=10 k2=19"`, is "k1 10, k2 19"; of a tuple, such as `"x=('a', 'b')"`,
    the entries are shown, "x a and b".
    """
    text = re.sub(r"(?<==)\([^()]*\)", lambda match: _entries(match[0]), text)
    return re.sub(r"(^|[ :])([A-Za-z][\w-]*)=", lambda match: f"{', ' if match[1] else ''}{_word(match[2])} ", text)


def _describe(plugin: object) -> str:
    # Data in memory only has the name of its source.
    if hasattr(plugin, "source"):
        return escape(plugin.source or type(plugin).__name__.lower())
    return readable(describe(plugin))


def _without_path(part: str) -> str:
    """One part of a variant's name: `"model.hidden=8"` as "hidden=8", `"gradient=full"` as "full", `"k=4"` as it is."""
    field, sign, value = part.partition("=")
    return value if field in KINDS and sign else re.sub(r"^(?:[a-z_]+\.)+(?=[a-z_]+=)", "", part)


def _word(field: str) -> str:
    return SHORT.get(field, field.replace("_", " ").replace("-", " "))


def _entries(text: str) -> str:
    """The entries of a tuple that Python has printed; any other text as it is."""
    try:
        *first, last = map(str, ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError):
        return text
    return " and ".join(filter(None, (", ".join(first), last)))


def _joined(columns: Iterable[tuple[str, ...]], count: int) -> tuple[str, ...]:
    return tuple(map(", ".join, zip(*columns, strict=True))) or ("",) * count


def _factors(varied: Sequence[tuple[str, ...]], count: int) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    if len(varied) < 2:
        return None
    first, rest = varied[0], _joined(varied[1:], count)
    if len(set(rest)) > len(DASHES):
        first, rest = rest, first
    return None if len(set(rest)) > len(DASHES) else (first, rest)
