"""Full, truncated, randomised: what does each cost on text? (8.7)   python experiments/truncation.py --seeds 5

Three ways to differentiate the same 256 steps: all of them, in segments of 10, and cut at random with the rest
reweighted, so that the mean is the full gradient. Estimators are measured before the first update, half way, and at the
end of the first full run. After 40 epochs perplexities differ by no more than seeds do. A gradient in segments takes
.6 of the time of the full one and a fifteenth of its bytes; random cuts save nothing. In the one window that was
measured, the truncated gradient, whose bias grows, still points nearly where the full one does. About more epochs, or
tasks with longer lags (copy_task.py), this says nothing.
"""

from dataclasses import replace

import seqjax as sj
from seqjax_datasets import TimeMachine
from seqjax_gradients import Full, Randomized, Truncated
from seqjax_models import RNN
from seqjax_samplers import Sequential

VARIANTS = {"full": Full(), "truncated": Truncated(steps=10), "randomized": Randomized(keep_prob=0.9)}


def main(
    dataset: sj.Dataset | None = None,
    epochs: int = 40,
    seeds: int = 5,
    hidden: int = 256,
    draws: int = 100,
    max_lag: int = 64,
    segments: tuple[int, ...] = (1, 2, 5, 10, 20, 50),
) -> sj.Report:
    base = sj.Experiment(
        dataset=dataset or TimeMachine(), sampler=Sequential(32, 256), model=RNN(hidden=hidden), epochs=epochs
    )
    runs = sj.sweep(base, {"gradient": VARIANTS, "seed": range(seeds)})
    report = sj.Report(__file__)
    for name, group in runs.variants.items():
        report.row(f"held-out perplexity, {name}", [run.metric("heldout_perplexity")[-1] for run in group])
        report.row(f"seconds of training, {name}", [run.metric("seconds")[-1] for run in group])
    report.table("held_out", runs.compare("heldout_perplexity", against="full"))
    first = runs["full, seed=0"]
    halfway = replace(first.experiment, epochs=(epochs + 1) // 2).run()  # the same updates, to the same bits
    for when, run, at in (("start", first, "init"), ("middle", halfway, "end"), ("end", first, "end")):
        report.table(f"estimators_{when}", sj.measure(run, VARIANTS, draws=draws, windows=1, at=at))
    by_lag = sj.lags(first.problem, first.params, **first.scan_arguments(8, 4 * max_lag), max_lag=max_lag)
    report.figure("lags", by_lag.plot())
    by_steps = sj.measure(first, [Truncated(steps=k) for k in segments], windows=1)
    report.figure("bias", by_steps.plot("bias"))
    for x in ("update", "seconds"):
        report.figure(f"by_{x}", sj.plot.runs(runs, x=x, y="heldout_loss"))
    return report


if __name__ == "__main__":
    sj.script(main)
