"""Runs that were never trained, with metrics that a formula gives."""

import math

from seqjax import Experiment, Run, Runs, Spec, Text, Tokens
from seqjax.gradients import Full, Truncated
from seqjax.models import RNN
from seqjax.samplers import Sequential

SCRIPT = '"><img src=x onerror=alert(1)><script>alert(1)</script>`a`|b'
"""A name that a page must show as it is."""
EPOCHS = 12
GRADIENTS = {"full": Full(), SCRIPT: Truncated(steps=5), "long & short": Truncated(steps=2)}


def loss(variant: int, seed: int, epoch: int) -> float:
    """The training loss, which depends on all three."""
    return 1 + 2 / epoch + 0.1 * variant + 0.01 * seed * epoch


def made_run(variant: int, seed: int, epochs: int = EPOCHS) -> Run:
    """A run of the given length, whose experiment asks for `EPOCHS`."""
    experiment = Experiment(
        dataset=Text("the cat sat on the mat. " * 20),
        model=RNN(hidden=3),
        sampler=Sequential(2, 8),
        gradient=list(GRADIENTS.values())[variant],
        epochs=EPOCHS,
        seed=seed,
    )
    rows = []
    for epoch in range(1, epochs + 1):
        train = loss(variant, seed, epoch)
        heldout = train + 0.5 if epoch % 2 == 0 else math.nan
        row = {"epoch": epoch, "update": 7 * epoch, "tokens": 123_457 * epoch, "seconds": 0.3 * epoch + 0.01 * seed}
        row |= {"train_loss": train, "heldout_loss": heldout}
        row |= {"train_perplexity": math.exp(train), "heldout_perplexity": math.exp(heldout), "grad_norm": 1e-9 * epoch}
        rows.append(row)
    return Run(experiment, None, Spec(Tokens(2)), metrics=rows)


def made_runs(seeds: int = 3) -> Runs:
    """Runs of each of `GRADIENTS`. The held-out part was evaluated after every second epoch."""
    names = {f"{name}, seed={seed}": (n, seed) for n, name in enumerate(GRADIENTS) for seed in range(seeds)}
    runs = {name: made_run(*variant_seed) for name, variant_seed in names.items()}
    return Runs(runs, {name: list(GRADIENTS)[variant] for name, (variant, _) in names.items()})
