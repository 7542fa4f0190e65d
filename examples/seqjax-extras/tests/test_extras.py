"""Every check of seqjax, for each plugin of this package."""

from seqjax_extras.byte import Byte
from seqjax_extras.fixed_share import FixedShare
from seqjax_extras.from_the_start import FromTheStart
from seqjax_extras.lion import Lion
from seqjax_extras.lorenz import Lorenz
from seqjax_extras.mgu import MGU

import seqjax

PLUGINS = [Lorenz(), Byte(), FromTheStart(), MGU(hidden=8), FixedShare(), FixedShare(share=0.5), Lion()]


@seqjax.testing.parametrize_checks(PLUGINS)
def test_plugin(check):
    check()


def test_an_experiment_of_them_runs():
    experiment = seqjax.Experiment(
        dataset=Lorenz(num_steps=500), sampler=FromTheStart(1, 20), model=MGU(hidden=8), gradient=FixedShare(),
        optimizer=Lion(learning_rate=0.01), epochs=200,
    )  # fmt: skip
    losses = experiment.run().metric("train_loss")
    assert losses[-1] < losses[0] / 4
