"""From the losses of all runs to scores, and to the problems that count."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .compute import as_array, choose, halves
from .problems import CONTROLS, FROZEN, IMMEDIATE, REFERENCE, Problem
from .stages import Stage, Stages
from .statistics import MARGIN, Interval, mean_interval
from .training import BLOCKS, tail

WORST = 1.0
"""The highest score, and that of a run that diverged."""
LARGEST = 1e30
"""A loss from here on counts as diverged."""
TOO_HIGH = "not admitted: the floor is too high"
"""How the status of a problem begins if a loss is below its floor."""
SAME = 1e-5
"""Two strategies are the same on a problem if the losses of all first blocks agree to this relative difference."""


class Candidate(NamedTuple):
    """What may be chosen for a contender.

    Args:
        variant: the strategy, which is another one than that of the contender if its fields are chosen, too.
        window: the steps of a window.
        rate: the learning rate.
        clip: the norm to which gradients are clipped; None: they are not.
        clipped: the share of the updates that were.
        is_edge: whether it has the lowest or the highest rate that was tried.
    """

    variant: str
    window: int
    rate: float
    clip: float | None
    clipped: float
    is_edge: bool

    def __str__(self) -> str:
        clip = "" if self.clip is None else f", clip {self.clip:g}"
        return f"{self.rate:.2g}{clip}{' (edge)' if self.is_edge else ''}"


class Contender(NamedTuple):
    """All runs of a strategy on a problem.

    Args:
        candidates: what may be chosen, C of them.
        losses: the blocks of the runs of each candidate with each seed, float64[C, S, BLOCKS]; NaN where a loss was not
            finite.
    """

    candidates: list[Candidate]
    losses: np.ndarray

    def chosen(self, num_blocks: int = BLOCKS) -> list[int]:
        """For each seed, the candidate that is best for the other half of the seeds after so many blocks."""
        return cross_fitted(self.tails(num_blocks)).tolist()

    def tuned(self, num_blocks: int = BLOCKS) -> np.ndarray:
        """The loss of each seed after so many blocks, with the candidate of the other half, float64[S]."""
        return self.tails(num_blocks)[self.chosen(num_blocks), range(self.losses.shape[1])]

    def tails(self, num_blocks: int = BLOCKS) -> np.ndarray:
        """The loss of each candidate and seed after so many blocks; inf where a run diverged, float64[C, S]."""
        ends = tail(self.losses, num_blocks)
        return np.where(ends < LARGEST, ends, np.inf)

    def curves(self) -> np.ndarray:
        """The blocks of the candidates that are chosen for a whole run, float64[S, BLOCKS]."""
        return self.losses[self.chosen(), range(self.losses.shape[1])]

    def untuned(self, rate: float) -> np.ndarray | None:
        """The losses with this rate and the first clip, float64[S]; None: it was not tried."""
        found = [n for n, each in enumerate(self.candidates) if each.rate == rate]
        return self.tails()[found[0]] if found else None


def cross_fitted(losses_CS: np.ndarray) -> np.ndarray:
    """For each seed, the candidate with the lowest mean loss over the other half of the seeds, int64[S]."""
    found = np.empty(losses_CS.shape[1], int)
    one, other = halves(len(found))
    for counted, choosing in ((one, other), (other, one)):
        found[counted] = choose(losses_CS[:, choosing])
    return found


class ProblemScores(NamedTuple):
    """A problem, and the results of all contenders on it.

    Args:
        problem: the problem.
        floor: the loss with the score 0.
        unit: the loss with the score 1 for each seed, that of `frozen`, float64[S].
        contenders: name -> its runs.
        strategies: name of a contender -> its strategy and its window.
        refused: strategy -> why it does not take this problem.
        prices: name of a contender -> what `compute.price` has found.
        errors: strategy -> what `compute.errors` has found.
        status: "counts", "beside", or "not admitted: ", followed by the reason.
    """

    problem: Problem
    floor: float
    unit: np.ndarray
    contenders: dict[str, Contender]
    strategies: dict[str, tuple[str, int]]
    refused: dict[str, str]
    prices: dict[str, dict[str, Any]]
    errors: dict[str, dict[str, Any]]
    status: str

    @property
    def name(self) -> str:
        """That of the problem."""
        return self.problem.name

    def score(self, name: str, num_blocks: int = BLOCKS) -> np.ndarray:
        """The scores of a contender after so many blocks, float64[S]; 1 after none."""
        if not num_blocks:
            return np.full(len(self.unit), WORST)
        return self.relative(self.contenders[name].tuned(num_blocks))

    def relative(self, losses: np.ndarray) -> np.ndarray:
        """(loss - floor) / (loss of frozen - floor), at most 1, seed by seed along the last axis."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scores = (losses - self.floor) / (self.unit - self.floor)
        # If a recurrence that is not trained reaches the floor, nothing can be learned, and all scores are 1.
        return np.where(self.unit > self.floor, np.minimum(scores, WORST), WORST)

    def loss_interval(self, losses: np.ndarray) -> Interval:
        """The interval of the mean of losses, float64[S], each of which counts at most as that of `frozen`."""
        return mean_interval(np.minimum(losses, self.unit)[None])

    def contender(self, strategy: str, window: int) -> str:
        """The name of a strategy with a window."""
        return name_of(strategy, window, self.problem)

    def seconds(self, name: str) -> float:
        """The core-seconds of the gradients of a whole run of a contender."""
        _, length = self.strategies[name]
        (updates,) = (window.updates for window in self.problem.windows if window.task.window == length)
        return updates * self.prices[name]["seconds"]

    def blocks_for(self, name: str, budget: float) -> int:
        """How many blocks of a run of a contender a multiple of the core-seconds of a whole run of `full` pays.

        Of several windows, that of `full` is the longest one.
        """
        paid = budget * self.seconds(self.contender(REFERENCE, self.problem.task.window)) / self.seconds(name)
        # Without the small number, rounding would take a block from a strategy that can pay the whole run.
        return int(min(paid, 1) * BLOCKS + 1e-9)

    def is_same(self, name: str, other: str) -> bool:
        """Whether two contenders compute the same gradient but for rounding, by the losses of their first blocks."""
        one, two = (
            {
                (each.window, each.rate, each.clip): losses[:, 0]
                for each, losses in zip(found.candidates, found.losses, strict=True)
            }
            for found in (self.contenders[name], self.contenders[other])
        )
        shared = one.keys() & two.keys()
        return bool(shared) and all(np.allclose(one[key], two[key], rtol=SAME, atol=1e-12) for key in shared)


def name_of(strategy: str, window: int, problem: Problem) -> str:
    """The name of a contender: that of its strategy, with the window if there are several."""
    return f"{strategy} @ {window}" if len(problem.windows) > 1 else strategy


def score(stages: Stages, variants: dict[str, list[str]] | None = None) -> list[ProblemScores]:
    """The scores of an edition whose stages have all been computed.

    Args:
        stages: the stages.
        variants: a strategy whose fields are chosen as its rate is -> the strategies with all values.
    """
    variants = variants or {}
    return [_score(stages, problem, variants) for problem in stages.problems]


def _score(stages: Stages, problem: Problem, variants: dict[str, list[str]]) -> ProblemScores:
    of_variant = {each: name for name, group in variants.items() for each in group}
    results: dict[str, list[tuple[str, int, dict[str, Any]]]] = {}
    strategies, refused, prices = {}, {}, {}
    for window, entry in problem.entries:
        strategy, length = of_variant.get(entry, entry), window.task.window
        result = stages.result(Stage("runs", window, (entry,))) or {}
        if result["refused"] is not None:
            refused[strategy] = result["refused"]
            continue
        name = name_of(strategy, length, problem)
        results.setdefault(name, []).append((entry, length, result))
        strategies[name] = (strategy, length)
        price = stages.result(Stage("price", window, (entry,))) or {}
        prices[name] = dearest(prices.get(name, price), price)
    contenders = {name: contender_of(found) for name, found in results.items()}
    errors = {}
    if problem.has_errors:
        errors = stages.result(Stage("errors", problem.windows[-1], problem.strategies)) or {}
    return problem_of(problem, contenders, strategies, refused, prices, errors)


def dearest(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The highest of two prices of a contender, one of whose fields is chosen."""
    share = min(one["core_share"], other["core_share"])
    return {name: max(one[name], other[name]) for name in ("seconds", "carried", "temporaries")} | {"core_share": share}


def contender_of(results: Sequence[tuple[str, int, dict[str, Any]]]) -> Contender:
    """A contender from the results of its stages, each with its strategy and its window."""
    candidates, losses = [], []
    for variant, window, result in results:
        for runs in result["runs"]:
            rates = [each["rate"] for each in result["runs"] if each["clip"] == runs["clip"]]
            is_edge = runs["rate"] in (min(rates), max(rates))
            candidates.append(Candidate(variant, window, runs["rate"], runs["clip"], runs["clipped"], is_edge))
            losses.append(as_array(runs["blocks"]))
    return Contender(candidates, np.stack(losses))


def problem_of(
    problem: Problem,
    contenders: dict[str, Contender],
    strategies: dict[str, tuple[str, int]],
    refused: dict[str, str],
    prices: dict[str, dict[str, Any]],
    errors: dict[str, dict[str, Any]],
) -> ProblemScores:
    """What the losses on a problem mean, and whether it counts; arguments as those of `ProblemScores`."""
    # The unit is what can be had without training the recurrence: `frozen` with the best of its windows.
    of_frozen = [contenders[name] for name, (strategy, _) in strategies.items() if strategy == FROZEN]
    frozen = Contender(
        [c for each in of_frozen for c in each.candidates], np.concatenate([c.losses for c in of_frozen])
    )
    unit, floor = frozen.tuned(), problem.task.floor
    found = ProblemScores(problem, floor, unit, contenders, strategies, refused, prices, errors, "")
    return found._replace(status=_status(found))


def _status(problem: ProblemScores) -> str:
    """Whether a problem counts: `full` must be better than what needs no gradient through time."""
    if problem.problem.task.is_diagnostic:
        return "beside"
    lengths = problem.problem.lengths
    # A run that reaches the floor can be below it by chance, since its data are a sample.
    lowest = problem.floor - MARGIN * max(problem.unit.mean() - problem.floor, 0.0)
    for name, each in problem.contenders.items():
        if (found := problem.loss_interval(each.tuned())).high < lowest:
            return f"{TOO_HIGH}: it is {problem.floor:.4g}, and the loss of {name} is {found}"
    reference = problem.contender(REFERENCE, lengths[-1])
    others = {FROZEN: problem.unit}
    if IMMEDIATE in problem.contenders:
        others[IMMEDIATE] = problem.contenders[IMMEDIATE].tuned()
    elif len(lengths) > 1:
        shortest = problem.contender(REFERENCE, lengths[0])
        others[shortest] = problem.contenders[shortest].tuned()
    least = {name: problem.loss_interval(losses).low for name, losses in others.items()}
    most = problem.loss_interval(problem.contenders[reference].tuned()).high
    if lost := [name for name, low in least.items() if most >= low]:
        return f"not admitted: the interval of {reference} is not below that of {' and '.join(lost)}"
    return "counts"


def counted(problems: Sequence[ProblemScores]) -> list[ProblemScores]:
    """The problems that count."""
    return [problem for problem in problems if problem.status == "counts"]


def over_problems(
    problems: Sequence[ProblemScores], scores: Callable[[ProblemScores, str], np.ndarray]
) -> dict[str, np.ndarray]:
    """Contender -> its scores on all problems, float64[K, S]; only contenders that take all of them, without controls.

    Args:
        problems: the problems.
        scores: (problem, contender) -> float64[S].
    """
    names = dict.fromkeys(
        name for problem in problems for name, (strategy, _) in problem.strategies.items() if strategy not in CONTROLS
    )
    return {
        name: np.stack([scores(problem, name) for problem in problems])
        for name in names
        if all(name in problem.contenders for problem in problems)
    }


def ratio(problems: Sequence[ProblemScores], name: str, reference: str, what: str) -> float:
    """The price of a contender in those of another one, the geometric mean over problems; `what`: seconds or bytes."""
    logs = [[np.log(price_of(problem, each, what)) for each in (name, reference)] for problem in problems]
    return float(np.exp(np.diff(-np.array(logs)).mean()))


def price_of(problem: ProblemScores, name: str, what: str) -> float:
    """The core-seconds of a whole run, or the bytes of what is carried and of the temporaries."""
    if what == "seconds":
        return problem.seconds(name)
    return problem.prices[name]["carried"] + problem.prices[name]["temporaries"]


def updates_to(blocks_SN: np.ndarray, target: float) -> float:
    """The median over the seeds of the share of a run until a block has a score of at most `target`; inf: never."""
    reached = blocks_SN <= target
    first = np.where(reached.any(1), (reached.argmax(1) + 1) / blocks_SN.shape[1], np.inf)
    return float(np.median(first))
