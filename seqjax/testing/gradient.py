"""`check_gradient`: proves that a gradient strategy does what it claims."""

import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax

from seqjax.errors import Error
from seqjax.gradients.base import Gradient, check_strategy
from seqjax.gradients.edges import WeightedEdges
from seqjax.gradients.scan import ARGUMENTS
from seqjax.plugin.registry import name_of
from seqjax.report.table import Table
from seqjax.testing import arguments, claims, contract, draws, rows, uses
from seqjax.testing.cases import CASES, MAIN, NO_FLOATS
from seqjax.testing.compare import BOUND, Failed, Skipped

WITH_FLOATS = (*MAIN, "small", "linear")
UNBIASED = ("learned", "foreign", "small", "linear")


class Check(NamedTuple):
    """A check, which is one line of the table.

    Args:
        name: its name.
        function: (strategy, cases=...) -> the worst error, or None; it raises `Failed` or `Skipped`.
        num_cases: the number of problems on which it is made.
        cases: the names of problems on which it can be made; the first ones that the strategy takes are used.
        bound: the largest error that is allowed; None: the check measures no error.
        meaning: what it means if the check fails, and what to do.
    """

    name: str
    function: Callable
    num_cases: int
    cases: tuple[str, ...]
    bound: float | None
    meaning: str


class Line(NamedTuple):
    """The result of a check.

    Args:
        check: the check.
        error: the worst error; None: the check measures no error, or was not made.
        note: the problems on which it was made, or why it was not made.
        fault: what failed; None: nothing.
        passed: "yes", "no" or "not made".
    """

    check: Check
    error: float | None
    note: str
    fault: str | None = None
    passed: str = "yes"


def check_gradient(strategy: Gradient) -> Table:
    """Proves in float64 that a strategy does what its `claim` and `of` say, and all else that the contract asks.

    The claim is compared with brute force, a Python loop, on three windows that carry state and memory: an exact claim
    call by call, an unbiased claim by summing the estimate over all outcomes, or by the mean of many calls if
    `outcomes` raises NotImplementedError. Every strategy is checked for the rest, such as rows that do not affect each
    other, two devices, bfloat16, and states without floats. A problem for which the strategy raises an `Error` is left
    out, and the table says why; at least one problem must remain.

    Args:
        strategy: an instance, such as `Truncated(steps=3)`.

    Returns:
        A table with the columns check, passed, worst error, bound, on. It says why a check could not be made.

    Raises:
        Error: checks fail. All of them are named, with their errors and their meanings.
    """
    lines = run_checks(strategy)
    if any(line.fault for line in lines):
        raise failure(strategy, lines)
    return as_table(lines)


def run_checks(strategy: Gradient) -> list[Line]:
    """The results of all checks that apply."""
    check_strategy("check_gradient", strategy)
    with jax.enable_x64(True):
        usable, refused, faults = _usable(strategy)
        if faults or not usable:
            why = "no problem is left to check: " + "; ".join(f"{name}: {why}" for name, why in refused.items())
            return [Line(CONTRACT, None, name, fault, "no") for name, fault in (faults or {"all": why}).items()]
        note = "".join(f"; not {name}: {why}" for name, why in refused.items())
        first = Line(CONTRACT, None, ", ".join(usable) + note)
        return [first, *(_run(strategy, check, usable) for check in _checks(strategy, usable))]


def as_table(lines: list[Line]) -> Table:
    """The results as a table."""
    rows = [(line.check.name, line.passed, line.error, line.check.bound, line.note) for line in lines]
    return Table(("check", "passed", "worst error", "bound", "on"), rows)


def failure(strategy: Gradient, lines: list[Line]) -> Error:
    """The error that names every failed check."""
    failed = [line for line in lines if line.fault]
    problems = [f"{line.check.name}: {line.fault}\n{line.check.meaning}" for line in failed]
    head = f"gradient {name_of(strategy)!r} ({strategy.claim}, of the {strategy.of})"
    return Error(f"{head} fails {len(failed)} of {len(lines)} checks:", problems=problems)


CONTRACT = Check(
    "shapes and dtypes", contract.check_contract, 7, CASES, None,
    "training carries state and memory in a scan, and adds the gradient to the parameters",
)  # fmt: skip
VALUES = Check(
    "loss and state", claims.check_values, 3, WITH_FLOATS, BOUND,
    "the way in which a gradient is taken changes neither: the loss is sum(weights * losses), never normalised, and "
    "the state is that after the last step",
)  # fmt: skip
NO_CUT = Check(
    "state without floats", uses.check_no_floats, 2, NO_FLOATS, BOUND,
    "there is nothing to cut, so the gradient is that of the losses alone; separate ids, counters and keys from what "
    "is differentiated with seqjax.gradients.ravel_float",
)  # fmt: skip
DRAWS = (
    Check(
        "draw follows outcomes", draws.check_draw, 1, ("small", "linear", "learned", "foreign", "cell"), 1.0,
        "outcomes must list all that draw can return, with probabilities, for the memory that it is given",
    ),
    Check(
        "rows and calls draw apart", draws.check_rows_draw_apart, 1, ("learned", "cell"), None,
        "derive all randomness from the key that draw is given",
    ),
)  # fmt: skip
INITIAL = Check(
    "learned initial state", rows.check_initial_state, 2, ("learned", "foreign"), None,
    "differentiate start(params) as well, and cut no edge before a window's first step",
)  # fmt: skip
OTHERS = (
    Check(
        "rows are independent", rows.check_rows, 2, ("learned", "foreign", "cell"), BOUND,
        "sum over rows and never normalise; let randomness depend on a row's key, and memory.shared hold means",
    ),
    Check(
        "padding has no effect", rows.check_padding, 2, ("learned", "foreign", "cell"), BOUND,
        "multiply each step's loss by its weight, and likewise what is remembered of it",
    ),
    Check(
        "unscored losses may be NaN", rows.check_unscored, 2, ("learned", "foreign"), BOUND,
        "0 times NaN is NaN: sum losses with seqjax.gradients.weighted_sum, give problem.unroll scored=weights != 0, "
        "and differentiate other losses at the values that seqjax.gradients.replace_unscored returns",
    ),
    Check(
        "reset rows start anew", rows.check_reset, 2, ("learned", "foreign", "cell"), BOUND,
        "keep what belongs to a row in Memory.rows, which is initialised again where the row is reset",
    ),
    Check(
        "value_and_grad of a scan", uses.check_scan, 1, ("foreign", "small", "cell"), BOUND,
        "a problem may have no init_state, model or spec: use problem.step and problem.unroll only",
    ),
    Check(
        "gradients of {}", arguments.check_arguments, 2, ("foreign", "small", "linear"), BOUND,
        "`argnums` says which of (params, state, xs) the strategy differentiates: the gradient of the start passes "
        "through start(params), and that of what the steps read through problem.inputs(params, batch.xs)",
    ),
    Check(
        "vmap over seeds", uses.check_seeds, 1, ("learned", "cell"), BOUND,
        "write for one sequence, in pure functions of arrays",
    ),
    Check(
        "two devices", rows.check_devices, 1, ("learned", "cell"), BOUND,
        "gradients are summed over devices and memory.shared is averaged: never divide by a sum over one device's rows",
    ),
    Check(
        "bfloat16", uses.check_half, 1, ("learned",), uses.HALF_BOUND,
        "compute in the dtypes of problem.step, and return those of the parameters",
    ),
)  # fmt: skip


def _checks(strategy: Gradient, usable: list[str]) -> Iterator[Check]:
    """The checks that apply to a strategy's claim, after the first."""
    yield VALUES
    if strategy.claim != "biased":
        yield _exact(strategy) if strategy.claim == "exact" else _unbiased(strategy, usable)
    yield NO_CUT
    if strategy.draws:
        yield from DRAWS
    # The gradient of any other random strategy is right in the mean only, so that a single call shows nothing.
    if not strategy.draws or isinstance(strategy, WeightedEdges):
        yield INITIAL
    for check in OTHERS:
        # The arguments are told by the name, since each strategy differentiates its own.
        yield check._replace(name=check.name.format(", ".join(ARGUMENTS[i] for i in strategy.argnums)))


def _exact(strategy: Gradient) -> Check:
    """The check of a strategy that claims to be exact."""
    if strategy.of == "window":
        meaning = "the gradient is not that of the window with a constant incoming state: correct it, or claim 'biased'"
        return Check("exact: window's gradient", claims.check_window, 3, WITH_FLOATS, BOUND, meaning)
    meaning = "the windows' gradients do not add up to that of the whole sequence: carry what is needed in memory"
    return Check("exact: history's gradient", claims.check_history, 3, WITH_FLOATS, BOUND, meaning)


def _unbiased(strategy: Gradient, usable: list[str]) -> Check:
    """The check of a strategy that claims to be unbiased: by enumeration, if that is possible."""
    cases = [name for name in UNBIASED if name in usable]
    listed = claims.enumerable(strategy, cases, strategy.of)
    over = "over all outcomes" if listed else "of many calls"
    meaning = f"the mean {over} is not the {strategy.of}'s gradient: reweight what survives by 1/probability"
    if strategy.of == "history":
        meaning += ", and carry in memory what later windows need"
    name = f"unbiased, {over}: {strategy.of}'s gradient"
    if not listed:
        return Check(name, claims.check_mean, 2, tuple(cases), 1.0, meaning)
    function: Callable = claims.check_unbiased if strategy.of == "window" else claims.check_unbiased_history
    return Check(name, function, 2, tuple(listed), BOUND, meaning)


def _usable(strategy: Gradient) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """The problems that the strategy takes; those that it refuses, and why; the first one on which it fails."""
    usable, refused = [], {}
    for name in CONTRACT.cases:
        try:
            contract.check_contract(strategy, [name])
        except Failed as fault:
            return [], {}, {name: str(fault)}
        except Error as fault:
            refused[name] = str(fault)
        except Exception as fault:
            return [], {}, {name: f"{name}: {_fault_text(strategy, fault)}"}
        else:
            usable.append(name)
    if set(usable) <= set(NO_FLOATS):
        usable = []
    return usable, refused, {}


def _run(strategy: Gradient, check: Check, usable: list[str]) -> Line:
    """The result of one check, on the first problems of its list that the strategy takes."""
    cases = [name for name in check.cases if name in usable][: check.num_cases]
    if not cases:
        return Line(check, None, f"cannot be made on {', '.join(usable)}", passed="not made")
    try:
        error = check.function(strategy, cases=cases)
    except Skipped as why:
        return Line(check, None, str(why), passed="not made")
    except Failed as fault:
        return Line(check, fault.error, ", ".join(cases), str(fault), "no")
    except Exception as fault:
        return Line(check, None, ", ".join(cases), _fault_text(strategy, fault), "no")
    return Line(check, error, ", ".join(cases))


def _fault_text(strategy: Gradient, fault: Exception) -> str:
    """An exception that a strategy raised, with the last line of the strategy's file in its traceback."""
    file = getattr(sys.modules.get(type(strategy).__module__), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(fault.__traceback__) if frame.filename == file]
    where = f" ({file}, line {lines[-1]})" if lines else ""
    return f"raises {type(fault).__name__}: {str(fault).strip().partition('\n')[0]:.300}{where}"
