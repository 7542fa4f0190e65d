"""Rows over the devices of two processes are trained as rows over two devices of one process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from support.together import TESTS, finish, start

DRIVER = """
import json, os, sys
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
if together := "JAX_PROCESS_ID" in os.environ:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], 2, int(os.environ["JAX_PROCESS_ID"]))

from seqjax import Series, Text
from seqjax.array_files.arrays import by_name
from seqjax.training import feed, loop
from seqjax.gradients import Certified, Randomized, Truncated
from seqjax.models import GRU, LSTM, RNN
from seqjax.optimizers import SGD, Adam
from seqjax.samplers import Random, Sequential
from seqjax import Experiment

feed.CHUNK_STEPS = 80
text = Text("the cat sat on the mat and the dog sat on the log. " * 5)
cases = {
    "truncated, carried": (GRU(hidden=4), Truncated(steps=2), Sequential(4, 5)),
    "randomized": (LSTM(hidden=4, dropout=0.3), Randomized(keep_prob=0.8), Random(4, 5)),
    "certified": (RNN(hidden=4), Certified(Truncated(steps=2), every=2), Sequential(4, 5)),
}
found = {}
for name, (model, gradient, sampler) in cases.items():
    seen = []

    def callback(run):  # that of process 0 counts
        seen.append(len(run.metrics))
        return jax.process_index() == 0 and len(run.metrics) == 3

    e = Experiment(dataset=text, model=model, sampler=sampler, gradient=gradient, optimizer=Adam(0.01),
                   train=0.8, heldout=0.2, epochs=5, keep="best")
    run = e.run(callback=callback)
    assert seen == [1, 2, 3] and run.finished, seen
    assert e.fit().num_devices == 2
    params = {"last": run.params, "best": run.best_params}
    found[name] = {
        "metrics": run.metrics,
        "params": {which: {key: a.tolist() for key, a in by_name(tree).items()} for which, tree in params.items()},
    }
try:
    Experiment(dataset=text, model=RNN(hidden=4), optimizer=SGD(1e300), epochs=2, sampler=Sequential(4, 5)).run()
except loop.Diverged as fault:
    found["diverged"] = [str(fault), jax.device_get(fault.run.params["W_hq"]).tolist()]
if together:  # nothing that one process knows alone may decide on what both compute
    from seqjax import Error
    from seqjax.training import join, processes
    from seqjax.training.devices import make_mesh
    assert processes.exchange({"n": jax.process_index()}) == [{"n": 0}, {"n": 1}]
    assert processes.from_first(jax.process_index()) == 0
    assert processes.bytes_from_first(bytes([jax.process_index() + 65] * 999)) == b"A" * 999
    try:
        with processes.failing_together():
            if jax.process_index() == 1:
                join.check_alone("x", 2)
        raise AssertionError("no error")
    except Error as fault:
        assert "x is for one process" in str(fault) and fault.exit_code == 2
    try:
        make_mesh(3)
        raise AssertionError("no error")
    except Error as fault:
        assert "multiple of the number of processes, 2" in str(fault)
json.dump(found, open(sys.argv[1], "w"))
"""
TIMES = ("seconds", "compile_seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one process with two devices found, then what each of two processes with one device found."""
    place = tmp_path_factory.mktemp("trained")
    alone = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(TESTS)}
    subprocess.run([sys.executable, "-c", DRIVER, place / "alone"], env=alone, check=True, timeout=240)
    ended = finish(start(["-c", DRIVER], [place, place], shares={n: ([place / str(n)], {}) for n in (0, 1)}))
    assert [code for code, _, _ in ended] == [0, 0], ended
    return [json.loads((place / name).read_text()) for name in ("alone", "0", "1")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["truncated, carried", "randomized", "certified"])
def test_metrics_and_parameters_are_those_of_one_process(trained, name):
    alone, *both = (found[name] for found in trained)
    for found in both:
        for row, other in zip(alone["metrics"], found["metrics"], strict=True):
            assert row.keys() == other.keys()
            for key in row.keys() - set(TIMES):
                np.testing.assert_allclose(other[key], row[key], rtol=1e-12, atol=1e-12, err_msg=key)
        for which, tree in alone["params"].items():
            for key, array in tree.items():
                np.testing.assert_allclose(found["params"][which][key], array, rtol=1e-12, atol=1e-12, err_msg=key)
    assert json.dumps(both[0]) == json.dumps(both[1])


@pytest.mark.slow
def test_a_run_that_diverges_does_so_in_all_processes(trained):
    alone, *both = (found["diverged"] for found in trained)
    assert "diverged at update" in alone[0]
    for message, params in both:
        assert message == alone[0]
        np.testing.assert_allclose(params, alone[1], rtol=1e-12)
