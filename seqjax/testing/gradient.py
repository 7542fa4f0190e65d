"""Checks of a gradient strategy: it does what it claims, on problems whose gradient is known."""

import functools
from collections.abc import Callable

import jax

from seqjax.errors import Error
from seqjax.gradients.calls.estimating import ARGUMENTS
from seqjax.gradients.contract.gradient import Gradient, check_strategy
from seqjax.gradients.influence.influence import Influence
from seqjax.gradients.reverse.edges import WeightedEdges
from seqjax.plugin.author import cause
from seqjax.testing.compare import BOUND, Failed, Skipped
from seqjax.testing.estimators.strategies import explain_strategy
from seqjax.testing.line import Check, Found
from seqjax.testing.proofs import arguments, claims, contract, draws, rows, second, uses
from seqjax.testing.proofs.cases import CASES, MAIN, NO_FLOATS

WITH_FLOATS = (*MAIN, "small", "linear")
UNBIASED = ("learned", "foreign", "small", "linear")


def checks(strategy: Gradient) -> list[Check]:
    """The checks of a strategy; the first one is that it returns an estimate.

    The claim is compared with brute force, a Python loop, on three windows that carry state and memory: an exact claim
    call by call, an unbiased claim by summing the estimate over all outcomes, or by the mean of many calls if
    `outcomes` raises NotImplementedError. A problem for which the strategy raises an `Error` is left out, and the first
    line says why; at least one problem must remain.

    Raises:
        Error: its class does not say what it claims.
    """
    check_strategy("check", strategy)
    chosen = [CONTRACT, VALUES]
    if strategy.claim != "biased":
        chosen.append(_exact(strategy) if strategy.claim == "exact" else _unbiased(strategy))
    chosen.append(NO_CUT)
    if strategy.draws:
        chosen += DRAWS
    if isinstance(strategy, Influence) and strategy.within_units is not None:
        chosen.append(UNITS)
    # The gradient of any other random strategy is right in the mean only, so that a single call shows nothing.
    if not strategy.draws or isinstance(strategy, WeightedEdges):
        chosen.append(INITIAL)
    if isinstance(strategy, WeightedEdges):
        chosen.append(SECOND)
    # The name of the check lists the arguments, since they differ from strategy to strategy.
    names = ", ".join(ARGUMENTS[i] for i in strategy.argnums)
    return chosen + [check._replace(name=check.name.format(names)) for check in OTHERS]


def on_cases(
    name: str, function: Callable, num_cases: int, cases: tuple[str, ...], bound: float | None, meaning: str
) -> Check:
    """A check that is made on the first problems of a list that the strategy takes, in float64.

    Args:
        name: its name.
        function: (strategy, cases=...) -> the worst error, or None; it raises `Failed` or `Skipped`.
        num_cases: the number of problems.
        cases: the names of problems on which it can be made.
        bound: the largest error that is allowed; None: the check measures no error.
        meaning: what it means if the check fails, and what to do.
    """

    def run(strategy):
        usable = problems_of(strategy)[0]
        chosen = [case for case in cases if case in usable][:num_cases]
        if not chosen:
            raise Skipped(f"cannot be made on {', '.join(usable)}")
        with jax.enable_x64(True):
            return Found(function(strategy, cases=chosen), ", ".join(chosen))

    return Check(name, run, meaning, bound)


def _explained(function: Callable) -> Callable:
    """A check that says what is wrong where it fails, as `check_estimator` does."""

    def run(strategy, cases):
        try:
            return function(strategy, cases=cases)
        except Failed as fault:
            text = explain_strategy(strategy, cases)
            raise Failed(f"{fault}\n{text}".rstrip(), fault.error) from None

    return run


@functools.lru_cache(maxsize=8)
def problems_of(strategy: Gradient) -> tuple[list[str], dict[str, str]]:
    """The problems that the strategy takes, and the problems that it refuses, with the reasons.

    Raises:
        Failed: it takes none, or fails on one.
    """
    usable, refused = [], {}
    with jax.enable_x64(True):
        for name in CASES:
            try:
                contract.check_contract(strategy, [name])
            except Failed:
                raise
            except Error as fault:
                refused[name] = str(fault)
            except Exception as fault:
                raise Failed(f"{name}: raises {cause(strategy, fault)}") from fault
            else:
                usable.append(name)
    if set(usable) <= set(NO_FLOATS):
        if len(reasons := set(refused.values())) == 1:
            raise Failed(f"no problem is left to check: {reasons.pop()}")
        raise Failed("no problem is left to check: " + "; ".join(f"{name}: {why}" for name, why in refused.items()))
    return usable, refused


def check_estimate(strategy: Gradient) -> Found:
    """Checks the shapes and dtypes of what it returns, on each problem."""
    usable, refused = problems_of(strategy)
    names_of: dict[str, list[str]] = {}
    for name, why in refused.items():
        names_of.setdefault(why, []).append(name)
    return Found(note=", ".join(usable) + "".join(f"; not {', '.join(each)}: {why}" for why, each in names_of.items()))


CONTRACT = Check(
    "shapes and dtypes", check_estimate,
    "training carries state and memory in a scan, and adds the gradient to the parameters",
)  # fmt: skip
VALUES = on_cases(
    "loss and state", claims.check_values, 3, WITH_FLOATS, BOUND,
    "the way in which a gradient is taken changes neither: the loss is sum(weights * losses), never normalised, and "
    "the returned state is the one after the last step",
)  # fmt: skip
NO_CUT = on_cases(
    "state without floats", uses.check_no_floats, 2, NO_FLOATS, BOUND,
    "there is nothing to cut, so only the losses have a gradient; separate ids, counters and keys from what "
    "is differentiated with seqjax.gradients.ravel_float",
)  # fmt: skip
DRAWS = (
    on_cases(
        "draw follows outcomes", draws.check_draw, 1, ("small", "linear", "learned", "foreign", "cell"), 1.0,
        "outcomes must list all that draw can return, with probabilities, for the memory that it is given",
    ),
    on_cases(
        "rows and calls draw apart", draws.check_rows_draw_apart, 1, ("learned", "cell"), None,
        "derive all randomness from the key that draw is given",
    ),
)  # fmt: skip
UNITS = on_cases(
    "by units as dense", uses.check_units, 1, ("cell",), BOUND,
    "within_units(J) must keep the same entries of J as advance does",
)  # fmt: skip
INITIAL = on_cases(
    "learned initial state", rows.check_initial_state, 2, ("learned", "foreign"), None,
    "differentiate start(params) as well, and cut no edge before a window's first step",
)  # fmt: skip
SECOND = on_cases(
    "second derivatives", second.check_second_derivatives, 1, ("cell", "small", "linear"), BOUND,
    "what edge_weights returns counts in higher derivatives, too: a state that is cut is a constant at every order",
)  # fmt: skip
OTHERS = (
    on_cases(
        "rows are independent", rows.check_rows, 2, ("learned", "foreign", "cell"), BOUND,
        "sum over rows and never normalise; let randomness depend on a row's key, and memory.shared hold means",
    ),
    on_cases(
        "padding has no effect", rows.check_padding, 2, ("learned", "foreign", "cell"), BOUND,
        "multiply each step's loss by its weight, and likewise what memory keeps of it",
    ),
    on_cases(
        "unscored losses may be NaN", rows.check_unscored, 2, ("learned", "foreign", "cell"), BOUND,
        "0 times NaN is NaN: sum losses with seqjax.gradients.weighted_sum, give problem.unroll scored=weights != 0, "
        "and differentiate other losses at the values that seqjax.gradients.replace_unscored returns",
    ),
    on_cases(
        "reset rows start anew", rows.check_reset, 2, ("learned", "foreign", "cell"), BOUND,
        "keep what belongs to a row in Memory.rows, which is initialised again where the row is reset",
    ),
    on_cases(
        "value_and_grad of a scan", uses.check_scan, 1, ("foreign", "small", "cell"), BOUND,
        "a problem may have no init_state, model or spec: use problem.step and problem.unroll only",
    ),
    on_cases(
        "gradients of {}", arguments.check_arguments, 2, ("foreign", "small", "linear"), BOUND,
        "`argnums` says which of (params, state, xs) the strategy differentiates: the gradient of the start passes "
        "through start(params), and the gradient of what the steps read through problem.read(params, batch.xs)",
    ),
    on_cases(
        "vmap over seeds", uses.check_seeds, 1, ("learned", "cell"), BOUND,
        "write for one sequence, in pure functions of arrays",
    ),
    on_cases(
        "two devices", rows.check_devices, 1, ("learned", "cell"), BOUND,
        "gradients are summed over devices and memory.shared is averaged: never divide by a sum over one device's rows",
    ),
    on_cases(
        "bfloat16", uses.check_half, 1, ("learned", "cell"), uses.HALF_BOUND,
        "compute in the dtypes of problem.step, and return the gradient in the dtypes of the parameters",
    ),
)  # fmt: skip


def _exact(strategy: Gradient) -> Check:
    """The check of a strategy that claims to be exact."""
    if strategy.of == "window":
        meaning = "this is not the gradient of the window with a constant incoming state: correct it, or claim 'biased'"
        return on_cases("exact: window's gradient", _explained(claims.check_window), 3, WITH_FLOATS, BOUND, meaning)
    meaning = "the windows' gradients must add up to the whole sequence's gradient: carry what is needed in memory"
    return on_cases("exact: history's gradient", _explained(claims.check_history), 3, WITH_FLOATS, BOUND, meaning)


def _unbiased(strategy: Gradient) -> Check:
    """The check of a strategy that claims to be unbiased: by enumeration, if that is possible."""
    meaning = (
        f"the mean is not the {strategy.of}'s gradient: reweight what survives by 1/probability, so that the product "
        "of the weights on every path has the mean 1"
    )
    if strategy.of == "history":
        meaning += ", and carry in memory what later windows need"

    def run(strategy):
        cases = [name for name in UNBIASED if name in problems_of(strategy)[0]]
        with jax.enable_x64(True):
            listed = claims.enumerable(strategy, cases, strategy.of)[:2]
            if not listed:
                share = claims.check_mean(strategy, cases[:2])
                return Found(note=f"mean of many calls, {', '.join(cases[:2])}: {share:.0%} of the largest deviation")
            if strategy.of == "history":
                return Found(
                    claims.check_unbiased_history(strategy, cases=listed), f"all outcomes, {', '.join(listed)}"
                )
            error = claims.check_unbiased(strategy, cases=listed)
            long_error, num_steps = claims.check_unbiased_long(strategy)
            steps = f"; a window of {num_steps} steps" if num_steps else ""
            return Found(max(error, long_error), f"all outcomes, {', '.join(listed)}{steps}")

    return Check(f"unbiased: {strategy.of}'s gradient", run, meaning, BOUND)
