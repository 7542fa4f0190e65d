"""The tables of the page of the referee."""

import inspect
from collections.abc import Sequence

import numpy as np

from seqjax.report import Table

from .families import FIRST, ONE, SECONDS, UPDATES, Family, blocks_at, score_at, scores_at
from .problems import CONTROLS, FROZEN, IMMEDIATE, REFERENCE
from .scores import Candidate, ProblemScores, counted, over_problems, ratio, updates_to
from .stages import Stages
from .statistics import improvement, mean_interval, rank_intervals, ranks_without_a_task

TARGET = 0.5
"""The score whose time is reported: half of what can be learned has been learned."""
BUDGETS = (0.05, 0.2, 1.0, 5.0, 20.0)
"""Multiples of the core-seconds of a whole run of `full`."""
NONE = "–"


def strategies(stages: Stages) -> Table:
    """What the strategies are: the first paragraphs of their docstrings."""
    texts = {name: inspect.getdoc(type(each)) or "" for name, each in stages.strategies.items()}
    return Table(
        ("strategy", "what it is"), [(name, text.split("\n\n")[0].replace("\n", " ")) for name, text in texts.items()]
    )


def tasks(problems: list[ProblemScores]) -> Table:
    """What the problems are, and which of them count."""
    rows = []
    for problem in problems:
        lengths, windows = problem.problem.lengths, problem.problem.windows
        losses = {
            FROZEN: problem.unit,
            REFERENCE: problem.contenders[problem.contender(REFERENCE, lengths[-1])].tuned(),
        }
        if IMMEDIATE in problem.contenders:
            losses[IMMEDIATE] = problem.contenders[IMMEDIATE].tuned()
        chance = problem.problem.task.chance
        rows.append(
            (
                problem.problem.question,
                problem.name,
                ", ".join(map(str, lengths)),
                problem.problem.rows,
                ", ".join(f"{window.updates}" for window in windows),
                ", ".join("none" if clip is None else f"{clip:g}" for clip in windows[0].settings.clips),
                f"{problem.floor:.4f}",
                NONE if chance is None else f"{chance:.4f}",
                *(
                    str(problem.loss_interval(losses[name])) if name in losses else NONE
                    for name in (FROZEN, IMMEDIATE, REFERENCE)
                ),
                problem.status,
            )
        )
    losses_of = (f"loss of {name} (95 % interval)" for name in (FROZEN, IMMEDIATE, REFERENCE))
    settings = ("windows (steps)", "rows", "updates", "clips")
    return Table(("question", "problem", *settings, "floor", "chance", *losses_of, "counts"), rows)


def ranking(found: Family, paid: Family) -> Table:
    """All contenders over the problems that count, by their scores.

    Args:
        found: the verdicts against `full` with all updates.
        paid: those with the core-seconds of `full`.
    """
    problems = found.problems
    scores, rows = scores_at(UPDATES, problems), []
    ranks, without = rank_intervals(scores), ranks_without_a_task(scores, [each.problem.task_name for each in problems])
    after = scores_at(SECONDS, problems)
    for name, each in sorted(scores.items(), key=lambda item: item[1].mean()):
        versus: tuple[str, ...] = ("", "", "", "", "")
        if (verdict := found.found.get((name, REFERENCE))) is not None:
            wins, at_cost = improvement(each, scores[REFERENCE]), paid.found[name, REFERENCE]
            versus = (str(wins), str(verdict.difference), verdict.p_text, verdict.word, at_cost.word)
        rank, (best, worst) = ranks[name], without[name]
        rows.append(
            (
                name,
                str(mean_interval(each)),
                f"{rank.value:g} ({rank.low:g} to {rank.high:g})",
                f"{best:g} to {worst:g}",
                *versus[:4],
                _rounded(ratio(problems, name, REFERENCE, "seconds"), 2),
                _rounded(ratio(problems, name, REFERENCE, "bytes"), 2),
                str(mean_interval(after[name])),
                versus[4],
            )
        )
    columns = (
        "strategy",
        "score (95 % interval)",
        "rank (95 % interval)",
        "rank without one task",
        f"share of seeds with a lower score than {REFERENCE}",
        f"score minus that of {REFERENCE}",
        "p, Holm",
        f"against {REFERENCE}",
        f"core-seconds, {REFERENCE} = 1",
        f"bytes, {REFERENCE} = 1",
        f"score after the core-seconds of {REFERENCE}",
        f"against {REFERENCE} then",
    )
    return Table(columns, rows)


def pairs(found: Family) -> Table:
    """Each strategy (row) against each other one (column), one family of comparisons."""
    names = list(dict.fromkeys(name for pair in found.found for name in pair))
    both = found.found | {(b, a): verdict.mirrored() for (a, b), verdict in found.found.items()}
    return Table(("", *names), [(a, *("" if a == b else both[a, b].word for b in names)) for a in names])


def verdicts(families: Sequence[Family]) -> Table:
    """All verdicts of the page, with their numbers."""
    rows = [
        (
            each.question,
            each.name,
            each.budget,
            "; ".join(problem.name for problem in each.problems),
            name,
            reference,
            *(f"{number:z.6f}" for number in verdict.difference),
            verdict.p_text,
            verdict.word,
        )
        for each in families
        for (name, reference), verdict in each.found.items()
    ]
    columns = ("question", "family", "budget", "problems", "strategy", "other")
    return Table((*columns, "score minus that of the other", "low", "high", "p, Holm", "verdict"), rows)


def losses(problems: list[ProblemScores]) -> Table:
    """The losses of all runs by seed: of the first block, after the core-seconds of `full`, and at the end."""
    rows = []
    for problem in problems:
        for name, contender in problem.contenders.items():
            for budget in (UPDATES, SECONDS, FIRST):
                blocks = blocks_at(budget, problem, name)
                tails = contender.tails(blocks) if blocks else np.full(contender.losses.shape[:2], np.inf)
                for candidate, each in zip(contender.candidates, tails, strict=True):
                    clip = "none" if candidate.clip is None else f"{candidate.clip:g}"
                    key = (problem.problem.question, problem.name, name, candidate.variant, f"{candidate.rate:g}", clip)
                    rows.append((*key, f"{problem.floor:.12g}", budget, *(f"{loss:.9g}" for loss in each)))
    seeds = problems[0].problem.windows[0].settings.seeds
    columns = ("question", "problem", "contender", "variant", "rate", "clip", "floor", "budget")
    return Table((*columns, *(f"seed {seed}" for seed in seeds)), rows)


def runs(problems: list[ProblemScores], families: Sequence[Family], untuned: float) -> Table:
    """All that was found about each contender on each problem."""
    rows = []
    for problem in problems:
        own = [each for each in families if each.kind == ONE and each.problems[0] is problem]
        found = {name: verdict for each in own for (name, _), verdict in each.found.items()}
        for name, contender in problem.contenders.items():
            verdict, prices = found.get(name), problem.prices[name]
            versus = (str(verdict.difference), verdict.p_text, verdict.word) if verdict else ("", "", "")
            chosen = contender.chosen()
            candidates = [contender.candidates[n] for n in dict.fromkeys(chosen)]
            without = contender.untuned(untuned)
            share = updates_to(problem.relative(contender.curves().T).T, TARGET)
            measured = [problem.errors.get(variant, {}) for variant in dict.fromkeys(c.variant for c in candidates)]
            rows.append(
                (
                    problem.name,
                    name,
                    str(mean_interval(problem.score(name)[None])),
                    *versus,
                    int(np.isinf(contender.tuned()).sum()),
                    "; ".join(_chosen(each, problem.strategies[name][0]) for each in candidates),
                    f"{100 * np.mean([contender.candidates[n].clipped for n in chosen]):.0f} %",
                    NONE if without is None else f"{problem.relative(without).mean():z.3f}",
                    _rounded(1e6 * prices["seconds"], 3),
                    f"{prices['carried']:,}",
                    f"{prices['temporaries']:,}",
                    f"{score_at(SECONDS, problem, name).mean():z.3f}" if problem.blocks_for(name, 1) else "1 (set)",
                    _rounded(share * problem.seconds(name), 2) if np.isfinite(share) else NONE,
                    "; ".join(_number(each.get("history_bias"), each.get("history_bias_error")) for each in measured),
                    "; ".join(_number(each.get("variance")) for each in measured),
                    "; ".join(_number(each.get("cosine")) for each in measured),
                )
            )
    columns = (
        "problem",
        "strategy",
        "score (95 % interval)",
        f"score minus that of {REFERENCE}",
        "p, Holm",
        f"against {REFERENCE}",
        "runs that diverged",
        "what each half of the seeds has chosen",
        "updates that were clipped",
        "score without tuning",
        "price of an update (µs)",
        "bytes carried",
        "bytes of temporaries",
        f"score after the core-seconds of {REFERENCE}",
        f"core-seconds to a score of {TARGET}",
        "bias",
        "variance",
        "cosine",
    )
    return Table(columns, rows)


def by_budget(problems: list[ProblemScores]) -> Table:
    """The scores after multiples of the core-seconds of a whole run of `full`, each with the rates of that budget."""
    rows = []
    for network in dict.fromkeys(problem.problem.network for problem in problems):
        group = [problem for problem in problems if problem.problem.network == network]
        found = {
            budget: over_problems(
                group, lambda problem, name, budget=budget: problem.score(name, problem.blocks_for(name, budget))
            )
            for budget in BUDGETS
        }
        for name in found[1.0]:
            scores = (f"{found[budget][name].mean():z.3f}" for budget in BUDGETS)
            rows.append((network, name, *scores))
    return Table(("network", "strategy", *(f"after {budget:g} times" for budget in BUDGETS)), rows)


def tuning(problems: list[ProblemScores], untuned: float) -> str:
    """How often the rate of those who do not tune would have been better, and by how much, as a sentence."""
    lost = [
        (problem.relative(problem.contenders[name].tuned()) - problem.relative(without)).mean()
        for problem in counted(problems)
        for name in problem.contenders
        if problem.strategies[name][0] not in CONTROLS
        if (without := problem.contenders[name].untuned(untuned)) is not None
    ]
    better = [each for each in lost if each > 0]
    by = f", by {max(better):.3f} at most" if better else ""
    return (
        f"In {len(better)} of {len(lost)} cases the rate {untuned:g} without tuning has a lower mean score than the "
        f"rate that was chosen{by}."
    )


def refused(problems: list[ProblemScores]) -> Table | None:
    """The strategies that do not take a problem; None: there are none."""
    rows = [(problem.name, name, why) for problem in problems for name, why in problem.refused.items()]
    return Table(("problem", "strategy", "why"), rows) if rows else None


def _chosen(candidate: Candidate, strategy: str) -> str:
    """What was chosen: the rate and the clip, and the fields if they were chosen, too."""
    fields = candidate.variant.removeprefix(f"{strategy}:") if candidate.variant != strategy else ""
    return ", ".join(filter(None, (str(candidate), fields)))


def _rounded(value: float, digits: int) -> str:
    """A number with so many digits that count, and without an exponent of ten unless it is very large or small."""
    return f"{float(f'{value:.{digits}g}'):g}"


def _number(value: float | None, error: float | None = None) -> str:
    if value is None:
        return NONE
    return f"{value:.2g} ± {error:.1g}" if error else f"{value:.2g}"
