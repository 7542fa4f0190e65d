"""`check`: proves that a plugin does what its kind asks, check by check."""

from collections.abc import Callable, Sequence
from typing import Any

from seqjax.errors import Error
from seqjax.plugin.base import Plugin
from seqjax.report.table import Table
from seqjax.testing import dataset, gradient, launcher, model, optimizer, plugin, sampler, tokenizer, tracker
from seqjax.testing.line import Check, Line, as_table, failure, run_check

CHECKS_OF_KIND: dict[str, Callable[[Any], Sequence[Check]]] = {
    "dataset": dataset.checks, "tokenizer": tokenizer.checks, "sampler": sampler.checks, "model": model.checks,
    "gradient": gradient.checks, "optimizer": optimizer.checks, "tracker": tracker.checks,
    "launcher": launcher.checks,
}  # fmt: skip
"""Kind -> the checks of a plugin of this kind, the first of which is that its methods fit together."""


def check(value: Plugin) -> Table:
    """Proves that a plugin does what its kind asks. docs/plugins.md lists the checks of each kind.

    >>> import seqjax as sj
    >>> from seqjax.tokenizers import Standardize
    >>> table = sj.testing.check(Standardize())
    >>> table["check"][:3], table["passed"][:3]
    (['equal instances', 'can be copied', 'TOML and back'], ['yes', 'yes', 'yes'])

    Args:
        value: an instance of any kind, such as `Truncated(steps=3)` or `GRU(hidden=8)`.

    Returns:
        A table with the columns check, passed, worst error, bound, on. It says why a check could not be made.

    Raises:
        Error: checks fail. All of them are named, with their errors and their meanings.
    """
    lines = run_checks(value)
    if any(line.fault for line in lines):
        raise failure(value, lines)
    return as_table(lines)


def checks_of(value: Plugin) -> list[Check]:
    """The checks of a plugin: first the checks of every plugin, then the checks of its kind. Nothing is computed.

    Raises:
        Error: it is not an instance of a plugin of one of the kinds.
    """
    if not isinstance(value, Plugin) or value.kind not in CHECKS_OF_KIND or getattr(value, "in_memory", False):
        raise Error(f"check takes an instance of a plugin, such as Truncated(steps=3), not {value!r:.80}")
    return [*plugin.CHECKS, *CHECKS_OF_KIND[value.kind](value)]


def run_checks(value: Plugin) -> list[Line]:
    """The results of all checks. If the first check of the kind fails, the others of the kind are not made."""
    checks, general = checks_of(value), len(plugin.CHECKS)
    lines = [run_check(value, each) for each in checks[: general + 1]]
    if lines[-1].fault:
        later = checks[general + 1 :]
        return [*lines[:-1], lines[-1]._replace(note=f"{len(later)} further checks are not made")]
    return lines + [run_check(value, each) for each in checks[general + 1 :]]
