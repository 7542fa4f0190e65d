"""Arguments of a wrong type are an `Error` that says what was passed and what is expected."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.drawn import drawn_params

import seqjax as sj
from seqjax.gradients import RTRL, Full, Memory, Randomized, SparseRTRL
from seqjax.models import RNN
from seqjax.optimizers import SGD
from seqjax.report import Table
from seqjax.samplers import Sequential

FIELDS = {"model": RNN(hidden=2), "sampler": Sequential(2, 8), "epochs": 1}
TEXT = sj.Experiment(dataset=sj.Text("the cat sat on the mat. " * 20), **FIELDS)
SERIES = sj.Experiment(dataset=sj.Series(np.sin(np.arange(90.0))), **FIELDS)

MESSAGES = {
    "path as long as no name": r"^path = 'xxx.*: File name too long; choose another name",
    "path with a null": r"^path = 'a\\x00b': .*null.*; choose another name",
    "path that is empty": r"^path = '': pass a path that is not empty",
    "path of a number": r"^path = 3: pass the path of a file or a folder",
    "devices": r"^devices = 1\.0 must be a whole number",
    "open none": r"^path = None: pass the path of a file or a folder",
    "open a list": r"^path = \[\]: pass the path of a file or a folder",
    "runs of a number": r"^Runs: runs = 3: pass a dict",
    "a run by its number": r"^no run 0; there are 'run'$",
    "a run by a list": r"^no run \[\]; there are 'run'$",
    "metric": r"^unknown metric 3; there are epoch, ",
    "metric of runs": r"^unknown metric \[\]; there are epoch, ",
    "against": r"^no variant \[\]; there are 'all'",
    "codec": r"^codec = 3: pass the codec of an earlier run",
    "toml": r"^a config = 3: pass a text of TOML",
    "experiment of a sweep": r"^sweep: experiment = 3: pass an Experiment",
    "axes": r"^sweep: axes = None: pass a dict of fields and their values",
    "axis": r"^sweep: a field = 1: pass the name of a field",
    "out": r"^sweep: out = 3: pass the path",
    "kind": r"^unknown kind \[\]\nkinds: ",
    "names": r"^unknown kind 3\nkinds: ",
    "name": r"^the name of a model = 3: pass a text",
    "register": r"^the name of a model = None: pass a text",
    "register above": r"^model 'abc' = 3: pass a class",
    "figure of runs": r"^plot\.runs: runs = 3: pass a Runs",
    "sequences": r"^Pairs\.from_sequences: inputs = 3: pass a list of sequences",
    "names of columns": r"^Series names = 3: pass a list of texts",
    "steps": r"^steps = 1000000000000 must be a whole number, at least 1, and below 2\^31",
    "strategy by name": r"^measure takes strategies such as Full\(\), in a list or by name in a dict, not 'full'$",
    "strategy": r"^measure takes strategies such as Full\(\), in a list or by name in a dict, not 3$",
    "strategies": r"^measure takes strategies such as Full\(\), in a list or by name in a dict, not 1$",
    "lags": r"^max_lag = 1000000000000 must be a whole number, at least 1, and below 2\^31",
    "every": r"^every = 1000000000000 must be a whole number, at least 1, and below 2\^31",
    "hazard": r"^hazard = 'x' must be a probability below 1",
    "state of a scan": r"^state = 1000000000000: .*too large.*; pass a float",
    "metrics": r"^metrics = 3: pass a list",
    "generating model": r"^generate: model = 3: pass a model",
    "generating codec": r"^generate: codec = None: pass the codec of a text",
    "unknown": r"unknown = 'x' must be True or False",
    "epochs": r"^epochs = 'x' must be a whole number, at least 1",
    "state": r"^train: state = 3: pass a state that an earlier call has yielded",
    "params": r"^the parameters do not fit the model rnn",
    "params of a text": r"^the parameters do not fit the model rnn",
    "complex weights": r"^weights must be real numbers, float\[T, B\], not complex64\[3, 2\]$",
    "complex weights of lags": r"^weights must be real numbers, float\[T, B\], not complex64\[3, 2\]$",
    "complex weights of one sequence": r"^weights must be real numbers, float\[T, B\], not complex64\[3\]$",
    "weights of texts": r"^weights = \[\['a'.* must be \"last\", None, or float\[T, B\]$",
    "batched": r"^batched = 'no': pass True or False$",
    "has_aux": r"^has_aux = 1: pass True or False$",
    "batched of lags": r"^batched = 'no': pass True or False$",
    "reverse": r"^reverse = 'no': pass True or False$",
    "progress": r"^progress = 'no': pass True, False or None$",
    "precision": r"^precision = array.* must be one of: float32, bfloat16$",
    "at of a run": r"^at = 'middle' must be \"init\" or \"end\"; for other parameters pass params=$",
    "bias": r"^bias = -1 must be a relative error, at least 0, such as 0\.1 for 10 %$",
    "bias that is NaN": r"^bias = nan must be a relative error",
    "bias of a text": r"^bias = 'x' must be a real number",
    "noise": r"^noise = nan must be positive and finite",
    "shares": r"^kept = \[1j, .*\] must be a real number, or an array of real numbers$",
    "hazard of lags": r"^hazard = 'x' must be a real number, or an array of real numbers$",
    "more lags than steps": r"^max_lag = 1000000000 must be at most 3, the number of steps$",
    "draws": r"^draws = 10+ must be a whole number, at least 1, and below 2\^31",
    "bytes of draws": r"^the keys of .* draws and the gradients of 2,000,000,000 side by side take 80,016.0 GB",
    "bytes of lags": r"^the parts of the gradient by 3 lags take 8,000.0 GB, and this machine has",
    "bytes of Jacobians": r"^Jacobians of 1,000,000,000 state numbers at 3 lags take 24,000,000,000.0 GB",
    "levels": r"levels = 1000000000: must be int in \[1, 30\] or none",
    "seed": r"seed = -1: must be int >= 0",
    "reset": r"^reset must be bool\[3\] or bool\[3, 2\], not 'no'$",
    "key": r"^key must be one key, such as jax\.random\.key\(0\), not str$",
    "key of a scan": r"^key must be one key, such as jax\.random\.key\(0\), not str$",
    "length": r"^length = -1 must be a whole number, at least 0, and below 2\^31$",
    "memory": r"^memory = 3: pass what the call before returned, `estimate\.memory`, or leave it out$",
    "memory of init": r"^the memory is for a single sequence, .*, and RTRL takes the memory of all rows: pass "
    r"seqjax\.gradients\.init_memory\(strategy, problem, params, state, num_rows\), or leave it out$",
    "memory without rows": r"^the memory does not fit: pass to RTRL what a call has returned",
    "no params": r"^params = None has no arrays, so that there is nothing to differentiate$",
    "no params of lags": r"^params = None has no arrays, so that there is nothing to differentiate$",
    "complex loss": r"^a step's loss .* but this one is complex64\[\]; take its real part or its absolute value$",
    "class for a step": r"^a step is a function \(params, state, x\) -> \(state, loss\), not <class '.*Full'>$",
    "strategy for a step": r"^a step is a function \(params, state, x\) -> \(state, loss\), not Full\(",
    "step of a problem": r"^a step is a function \(params, state, x\) -> \(state, loss\), not 3$",
    "init_state": r"^init_state is a function \(params, key=None\) -> state, not 3$",
    "model of a problem": r"^Problem\.of takes a model, such as RNN\(hidden=8\), not <class '.*RNN'>$",
    "spec of a problem": r"^spec = 3: pass what goes in and what comes out, such as Spec\(Values\(1\)\)$",
    "loss of a problem": r"^loss = 'mse': pass a function \(output, target\) -> float\[\], or None$",
    "module of torch": r"^to_torch: module = None: pass a text, such as 'rnn\.'$",
    "name of a strategy": r"^measure: the name of a strategy = 1: pass a text$",
    "torch": r"^from_torch: a name = 1: pass arrays by texts",
    "to torch": r"PyTorch has no 1$",
    "caption": r"^caption = 3: pass a text, or leave it out$",
    "label": r"^label = 3: pass a text, or leave it out$",
    "size of a figure": r"^figsize = 3\.25: give the width and the height in inches",
    "empty name": r"^columns: the new name of 'loss' is ''; pass a text that is not empty$",
    "best": r"^best = \['loss'\]: choose 'lowest' or 'highest' for each column, in a dict$",
    "rows": r"^rows = 3: pass a list of rows",
    "row": r"^row 0 = 3: pass one value for each column, in a list$",
    "x scale": r"^x_scale = 'logg'",
    "y scale": r"^y_scale = \[\]",
    "scale of points": r"^x_scale = 'lin'",
    "scale of averages": r"^y_scale = 'lin'",
    "title of a figure": r"^title = 3: pass a text$",
    "figure of a report": r"^figure 'f' = 3: pass a figure of matplotlib$",
    "name of a table": r"^3 cannot name files",
    "title of a report": r"^Report: title = 3: pass a text$",
    "folder of a report": r"^folder = 3: pass the path",
}


def calls():
    """Name -> a wrong call."""
    run, spec = TEXT.run(), sj.Spec(sj.Values(1))
    series = sj.Run(SERIES, None, spec, drawn_params(SERIES.model, spec))
    runs = sj.Runs({"run": run}, {"run": ""})
    problem, stream, scan = run.problem, run.prepared.streams["train"], run.scan_arguments(2, 8)
    state, xs = scan["state"], scan["xs"]
    table, report = Table(["model", "loss"], [["rnn", 1.0], ["gru", 2.0]]), sj.Report(title="x")

    def step(w, s, x):
        s = jnp.tanh(jnp.sum(w) * s + x)
        return s, jnp.sum(s**2)

    w, bare = jnp.asarray(0.7), (jnp.ones(2), jnp.ones((3, 2)))
    by_lag = sj.lags(step, w, *bare, 2, batched=True)
    to_compute = jax.eval_shape  # of arrays that nobody has

    def estimate(strategy=Full(), params=w, state=bare[0], xs=bare[1], options={}, **keywords):  # noqa: B006, B008
        return sj.estimate(step, strategy, **{"batched": True} | options)(params, state, xs, **keywords)

    def train(**wrong):
        options = {"sampler": Sequential(2, 8), "gradient": Full(), "optimizer": SGD(learning_rate=0.1), "epochs": 1}
        return sj.train(problem, stream, **options | wrong)

    return {
        "path as long as no name": lambda: TEXT.run("x" * 300),
        "path with a null": lambda: TEXT.run("a\0b"),
        "path that is empty": lambda: TEXT.run(""),
        "path of a number": lambda: TEXT.run(3),
        "devices": lambda: TEXT.run(devices=1.0),
        "open none": lambda: sj.Run.open(None),
        "open a list": lambda: sj.Runs.open([]),
        "runs of a number": lambda: sj.Runs(3, {}),
        "a run by its number": lambda: runs[0],
        "a run by a list": lambda: runs[[]],
        "metric": lambda: run.metric(3),
        "metric of runs": lambda: runs.compare([]),
        "against": lambda: runs.compare("train_loss", against=[]),
        "codec": lambda: TEXT.prepare(3),
        "toml": lambda: sj.Experiment.from_toml(3),
        "experiment of a sweep": lambda: sj.sweep(3, {"seed": [0]}),
        "axes": lambda: sj.sweep(TEXT, None),
        "axis": lambda: sj.sweep(TEXT, {1: [2]}),
        "out": lambda: sj.sweep(TEXT, {"seed": [0]}, 3),
        "kind": lambda: sj.create([], "rnn"),
        "names": lambda: sj.names(3),
        "name": lambda: sj.create("model", 3),
        "register": lambda: sj.register("model", None),
        "register above": lambda: sj.register("model", "abc")(3),
        "figure of runs": lambda: sj.plot.runs(3),
        "sequences": lambda: sj.Pairs.from_sequences(3, [1]),
        "names of columns": lambda: sj.Series([1.0, 2.0], names=3),
        "steps": lambda: series.forecast([1.0], 10**12),
        "strategy by name": lambda: run.measure("full"),
        "strategy": lambda: run.measure(3),
        "strategies": lambda: run.measure({1: [2]}),
        "lags": lambda: sj.lags(problem, run.params, state, xs, 10**12, batched=True),
        "every": lambda: sj.jacobians(problem, run.params, state, xs, 3, every=10**12, batched=True),
        "hazard": lambda: sj.jacobians(problem, run.params, state, xs, 3, batched=True).check_hazard("x"),
        "state of a scan": lambda: sj.lags(problem, run.params, 10**12, xs, 3, batched=True),
        "metrics": lambda: sj.evaluate(problem, run.params, stream, 3),
        "generating model": lambda: sj.generate(3, run.params, run.codec, "the", 3),
        "generating codec": lambda: sj.generate(TEXT.model, run.params, None, "the", 3),
        "unknown": lambda: run.generate("the", unknown="x"),
        "epochs": lambda: train(epochs="x"),
        "state": lambda: train(state=3),
        "params": lambda: train(params={}),
        "params of a text": lambda: train(params="x"),
        "complex weights": lambda: estimate(weights=1j * np.ones((3, 2))),
        "complex weights of lags": lambda: sj.lags(step, w, *bare, 2, weights=1j * np.ones((3, 2)), batched=True),
        "complex weights of one sequence": lambda: estimate(
            options={"batched": False}, state=1.0, xs=jnp.ones(3), weights=1j * np.ones(3)
        ),
        "weights of texts": lambda: estimate(weights=[["a"] * 2] * 3),
        "batched": lambda: estimate(options={"batched": "no"}),
        "has_aux": lambda: estimate(options={"has_aux": 1}),
        "batched of lags": lambda: sj.lags(step, w, *bare, 2, batched="no"),
        "reverse": lambda: sj.scan(lambda s, x: (s, x), 0.0, jnp.ones(3), reverse="no", gradient=Full()),
        "progress": lambda: run.measure(Full(), progress="no"),
        "precision": lambda: estimate(options={"precision": np.ones(2)}),
        "at of a run": lambda: run.measure(Full(), at="middle"),
        "bias": lambda: by_lag.steps(bias=-1),
        "bias that is NaN": lambda: by_lag.steps(bias=float("nan")),
        "bias of a text": lambda: by_lag.steps(bias="x"),
        "noise": lambda: by_lag.hazard(noise=float("nan")),
        "shares": lambda: by_lag.bias_of([1j, 1, 1]),
        "hazard of lags": lambda: by_lag.variance("x"),
        "more lags than steps": lambda: sj.lags(step, w, *bare, 10**9, batched=True),
        "draws": lambda: run.measure(Full(), draws=10**20),
        "bytes of draws": lambda: sj.measure(
            step, jnp.ones(10**4), *bare, Randomized(), batched=True, draws=2 * 10**9, together=2 * 10**9
        ),
        "bytes of lags": lambda: to_compute(
            lambda w: sj.lags(step, w, *bare, 3, batched=True), jax.ShapeDtypeStruct((1000, 10**6, 250), jnp.float32)
        ),
        "bytes of Jacobians": lambda: to_compute(
            lambda s: sj.jacobians(step, w, s, bare[1][..., None], 3, batched=True),
            jax.ShapeDtypeStruct((2, 10**9), jnp.float32),
        ),
        "levels": lambda: Full(levels=10**9),
        "seed": lambda: SparseRTRL(seed=-1),
        "reset": lambda: estimate(reset="no"),
        "key": lambda: estimate(key="no"),
        "key of a scan": lambda: sj.scan(lambda s, x: (s, x), 0.0, jnp.ones(3), key="no", gradient=Full()),
        "length": lambda: sj.scan(lambda s, x: (s, s), 0.0, None, length=-1, gradient=Full()),
        "memory": lambda: estimate(memory=3),
        "memory of init": lambda: estimate(RTRL(), memory=RTRL().init(sj.Problem(step), w, jnp.asarray(0.0))),
        "memory without rows": lambda: estimate(RTRL(), memory=Memory()),
        "no params": lambda: estimate(params=None),
        "no params of lags": lambda: sj.lags(step, None, *bare, 2, batched=True),
        "complex loss": lambda: sj.estimate(lambda w, s, x: (s, jax.lax.complex(w * x, x)), Full(), batched=True)(
            w, *bare
        ),
        "class for a step": lambda: sj.first_nonfinite(Full, w, *bare, batched=True),
        "strategy for a step": lambda: sj.first_nonfinite(Full(), w, *bare, batched=True),
        "step of a problem": lambda: sj.Problem(3),
        "init_state": lambda: sj.Problem(step, 3),
        "model of a problem": lambda: sj.Problem.of(RNN, sj.Spec(sj.Values(1))),
        "spec of a problem": lambda: sj.Problem.of(RNN(hidden=2), 3),
        "loss of a problem": lambda: sj.Problem.of(RNN(hidden=2), sj.Spec(sj.Values(1)), "mse"),
        "module of torch": lambda: sj.to_torch(run.params, module=None),
        "name of a strategy": lambda: sj.measure(step, w, *bare, {1: Full()}),
        "torch": lambda: sj.from_torch({1: 2}),
        "to torch": lambda: sj.to_torch({1: 2}),
        "caption": lambda: table.to_latex(caption=3),
        "label": lambda: table.to_latex(label=3),
        "size of a figure": lambda: sj.plot.lines({"a": [1.0]}, figsize=3.25),
        "empty name": lambda: table.choose({"loss": ""}),
        "best": lambda: Table(["loss"], [[1.0]], best=["loss"]),
        "rows": lambda: Table(["loss"], 3),
        "row": lambda: Table(["loss"], [3]),
        "x scale": lambda: sj.plot.lines({"a": [1.0]}, x_scale="logg"),
        "y scale": lambda: sj.plot.lines({"a": [1.0]}, y_scale=[]),
        "scale of points": lambda: sj.plot.points({"a": (1.0, 2.0)}, x_scale="lin"),
        "scale of averages": lambda: sj.plot.averages({"a": ([1.0], [[2.0]])}, y_scale="lin"),
        "title of a figure": lambda: sj.plot.lines({"a": [1.0]}, title=3),
        "figure of a report": lambda: report.figure("f", 3),
        "name of a table": lambda: report.table(3, table),
        "title of a report": lambda: sj.Report(title=3),
        "folder of a report": lambda: report.save(3),
    }


@pytest.fixture(scope="module")
def found():
    """What each call raises, by name."""
    found = {}
    for name, call in calls().items():
        try:
            call()
            found[name] = "nothing was raised"
        except sj.Error as fault:
            found[name] = str(fault)
        except Exception as fault:
            found[name] = f"{type(fault).__name__}, which is no Error: {fault}"
    return found


def test_every_call_has_a_message(found):
    assert list(found) == list(MESSAGES)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_wrong_argument_is_an_error_that_says_what_is_expected(found, name):
    assert re.search(MESSAGES[name], found[name]), found[name]


def test_a_run_that_is_not_there_is_a_key_error_too():
    runs = sj.Runs({}, {})
    assert "x" not in runs
    assert runs.get("x") is None
