"""Searches for the hyper-parameters of a GRU with optuna, and ends trials that are worse than most.

    python examples/search_optuna.py runs/search

Each trial is a run with a folder of its own. The same command goes on after an interruption: the seeded sampler
proposes the same trials again, and the runs that have ended are opened.
"""

import sys
from pathlib import Path

import optuna

import seqjax as sj
from seqjax.datasets import NoisySine
from seqjax.models import GRU
from seqjax.optimizers import Adam
from seqjax.samplers import Sequential
from seqjax.training import Diverged

TRIALS = 8
EPOCHS = 10


def main(out: Path) -> None:
    """Makes all trials, and prints the best one and a table of all."""

    def objective(trial: optuna.Trial) -> float:
        experiment = sj.Experiment(
            dataset=NoisySine(),
            model=GRU(hidden=trial.suggest_categorical("hidden", [8, 32])),
            sampler=Sequential(batch_size=8, num_steps=20),
            optimizer=Adam(learning_rate=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)),
            epochs=EPOCHS,
        )
        reported = 0

        def callback(run: sj.Run) -> bool:
            """Reports the epochs that are new to optuna. Training ends if it returns True."""
            nonlocal reported
            for row in run.metrics[reported:]:
                trial.report(row["heldout_loss"], row["epoch"])
            reported = len(run.metrics)
            return trial.should_prune()

        run = experiment.run(out / f"trial-{trial.number}", callback=callback, progress=False)
        callback(run)  # a run that has ended earlier was opened, and has not called it
        if run.stopped_at is not None:
            raise optuna.TrialPruned(run.ending)
        return run.metrics[-1]["heldout_loss"]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=2)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=TRIALS, catch=Diverged)
    print(f"best     trial {study.best_trial.number}: held-out loss {study.best_value:.4f}, {study.best_params}")
    runs = sj.Runs.open(*(out / f"trial-{trial.number}" for trial in study.trials))
    print(runs.compare("heldout_loss", which="best"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/search"))
