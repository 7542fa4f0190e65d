import jax
import numpy as np
import pytest

import seqjax
from seqjax import Experiment, Problem, Spec, Text, Tokens
from seqjax.data import Stream
from seqjax.training import TrainingSetup
from seqjax.training.epoch import compiled_epoch
from seqjax.training.first_call import first_call

DEFAULT = Experiment()


def export(model=DEFAULT.model, gradient=DEFAULT.gradient, size=100):
    """The epoch of the default experiment on one device, lowered for all platforms, and the initial state."""
    problem, ids = Problem.of(model, Spec(Tokens(size))), np.zeros(5_000, np.int32)
    stream = Stream(ids, ids, np.array([0, len(ids)]))
    setup = TrainingSetup(sampler=DEFAULT.sampler, gradient=gradient, optimizer=DEFAULT.optimizer, epochs=2, devices=1)
    args = first_call(problem, stream, setup).make()
    return jax.export.export(compiled_epoch, platforms=("cpu", "cuda", "tpu"))(*args), args[0]


def test_the_default_train_step_lowers_for_cpu_cuda_and_tpu():
    exported, state = export()
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.nr_devices == 1
    leaves = jax.tree.leaves(state)
    taken, given = (
        [(a.shape, a.dtype) for a in avals[: len(leaves)]] for avals in (exported.in_avals, exported.out_avals)
    )
    assert taken == given, "what comes out can go in again"
    assert exported.mlir_module().count("tf.aliasing_output") == len(leaves), "the whole state is donated"


@pytest.mark.slow
@pytest.mark.parametrize("name", seqjax.names("gradient"))
def test_every_gradient_lowers_for_cpu_cuda_and_tpu(name):
    exported, _ = export(seqjax.create("model", "rnn", hidden=4), seqjax.create("gradient", name), size=5)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_training_runs_on_a_gpu():
    if jax.default_backend() != "gpu":
        pytest.skip(f"needs a GPU and jax[cuda]; jax finds {jax.devices()[0].device_kind} ({jax.default_backend()})")
    sampler = seqjax.create("sampler", "sequential", batch_size=4, num_steps=12)
    fields = {"train": 480, "heldout": 120, "sampler": sampler, "epochs": 3}
    run = Experiment(dataset=Text("the cat sat on the mat. " * 30), **fields).run()
    assert {device.platform for leaf in jax.tree.leaves(run.params) for device in leaf.devices()} == {"gpu"}
    loss = run.metric("train_loss")
    assert np.isfinite(loss).all()
    assert loss[-1] < loss[0]
    assert len(run.generate("the cat", 20, temperature=1.0)) == 27
