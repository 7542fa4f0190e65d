"""Common mistakes of authors are found before training, and named: the method, what it returned, what was expected."""

import re
from pathlib import Path

import pytest
from support.small_run import NGRAM, TEXT

from seqjax.cli import main

HEAD = """
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

import seqjax


@seqjax.register("{kind}", "mine")
@dataclass(frozen=True)
class Mine(seqjax.{base}):
    '''Mine.'''
"""
MODEL = """
    def init(self, key, spec):
        shapes = {"U": (spec.inputs.width, 8), "W": (8, 8), "V": (8, spec.targets.width)}
        return {name: 0.1 * jax.random.normal(key, shape) for name, shape in shapes.items()}

    def init_state(self, params, spec, key=None):
        return {"h": jnp.zeros(8)}
"""
STEP = """
    def step(self, params, state, x):
        h = jnp.tanh(params["U"][x] + state["h"] @ params["W"])
        return {"h": h}, h @ params["V"]
"""
SGD = """
    build = lambda self, num_updates: optax.sgd(0.1)
"""
SIZES = "    batch_size: int = 4\n    num_steps: int = 8\n"
CELL = """
    cell = lambda self, u, v, state: self.State(jnp.tanh(u + v))
"""
LAUNCH = "    launch = lambda self, jobs, show_progress: {job.name: job.name for job in jobs}\n"
MISTAKES = {
    "an exit in the check of the fields": (
        "model", "Cell", "    __post_init__ = lambda self: quit()",
        r"model mine: __post_init__ raises SystemExit: None\n.*mine\.py, line \d+: __post_init__ = ",
    ),
    "a list as a default": (
        "optimizer", "Optimizer", "    sizes: list[int] = []" + SGD,
        r"Mine\.sizes = \[\]: the default of a field cannot be a list; a field holds .* tuple",
    ),
    "a field that is an array": (
        "optimizer", "Optimizer", "    w: jax.Array = None" + SGD, r"Mine\.w: no field can be of the type Array",
    ),
    "an output of another shape": (
        "model", "Model", MODEL + STEP.replace('h @ params["V"]', "h"),
        r"model mine: step: the output is float32\[8\], and not of shape \(\d+,\)",
    ),
    "no pair": (
        "model", "Model", MODEL + STEP.replace('{"h": h}, h', "h"),
        r"model mine: step returned .*, and must return \(new state, output\)",
    ),
    "a state of another dtype": (
        "model", "Model", MODEL + STEP.replace('{"h": h}', '{"h": h.astype(jnp.bfloat16)}'),
        r"model mine: step: the state\['h'\] goes in as float32\[8\], comes out as bfloat16\[8\]",
    ),
    "an exception in step": (
        "model", "Model", MODEL + STEP.replace('["W"]', '["V"]'),
        r"model mine: step raises TypeError: .*\n.*mine\.py, line \d+: h = jnp\.tanh\(.*\n.*step\(params, state, x\)",
    ),
    "an unroll that ignores the edge weights": (
        "model", "Model", MODEL + STEP + "    unroll = lambda self, params, state, xs, edge_weights=None: "
        "seqjax.gradients.unroll(lambda s, x: self.step(params, s, x), state, xs)",
        r"the unroll .* ignores its edge weights",
    ),
    "a cell that returns a tuple": (
        "model", "Cell", "    cell = lambda self, u, v, state: (jnp.tanh(u + v),)",
        r"model mine: cell returned tuple, and must return its State, HiddenState, such as self\.State\(h=h\)",
    ),
    "blocks that are forgotten": (
        "model", "Cell", "    cell = lambda self, u, v, state: self.State(jnp.split(u + v, 2, -1)[0] * state.h)",
        r"model mine: cell raises TypeError: .*\n.*mine\.py, line \d+: cell = .*\n.* attribute blocks",
    ),
    "a parameter of the cell that it does not take": (
        "model", "Cell", '    init_cell = lambda self, key: {"w": jnp.zeros(self.hidden)}' + CELL,
        r"model mine: cell: got an unexpected keyword argument 'w'\nIt is called as cell\(u, v, state, w\), since",
    ),
    "a parameter of the cell of another size": (
        "model", "Cell", '    init_cell = lambda self, key: {"w": jnp.zeros(3)}' + CELL,
        r"model mine: init_cell returned w = float32\[3\], and must return float\[256\] or float\[n, 256\]",
    ),
    "a name that the cell uses already": (
        "model", "Cell", '    init_cell = lambda self, key: {"state": jnp.zeros(self.hidden)}' + CELL,
        r"model mine: init_cell returned a parameter named 'state'; cell takes it by its name",
    ),
    "parameters of the cell that are no dict": (
        "model", "Cell", "    init_cell = lambda self, key: jnp.zeros(self.hidden)" + CELL,
        r"model mine: init_cell returned float32\[256\], and must return a dict of float\[256\] or float\[n, 256\]",
    ),
    "a state without an output": (
        "model", "Cell", "    State = __import__('collections').namedtuple('State', 'c')" + CELL,
        r"model mine: State must be a NamedTuple with a field h, the output of the layer",
    ),
    "a class attribute with a type": (
        "model", "Cell", "    blocks: int = 2" + CELL,
        r"Mine\.blocks is a class attribute, and with a type it would become a hyper-parameter: write blocks = 2",
    ),
    "a method that is missing": (
        "model", "Cell", "    pass", r"model mine: cell raises NotImplementedError: the method cell is missing",
    ),
    "an exception in plan": (
        "sampler", "Sampler", SIZES + "    plan = lambda self, bounds, rng: bounds[len(bounds)]",
        r"sampler mine: plan raises IndexError: .*\n.*mine\.py, line \d+: plan = ",
    ),
    "a sampler without sizes": (
        "sampler", "Sampler", "    plan = lambda self, bounds, rng: None",
        r"sampler mine: it needs a field batch_size, such as batch_size: int = 32",
    ),
    "a hazard that is no probability": (
        "gradient", "RandomCuts", "    hazard = lambda self, age, shared: -0.5",
        r"gradient mine: hazard\(0\) = -0\.5, and the probability of a cut must be in \[0, 1\)",
    ),
    "a join that is not the inverse of split": (
        "tokenizer", "Tokenizer",
        "    split = lambda self, text: text.split()\n    join = lambda self, tokens: ''.join(tokens)",
        r"tokenizer mine: join is not the inverse of split: the tokens \['so', 'it', 'goes'\] are joined to 'soitgoes'",
    ),
    "weights of another length": (
        "gradient", "WeightedEdges", """
    claim = "biased"
    edge_weights = lambda self, noise, memory, num_steps: (jnp.ones(num_steps - 1), memory)
""",
        r"gradient mine: edge_weights returned float32\[34\] for a window of 35 steps, and must return",
    ),
    "a method with other arguments": (
        "gradient", "RandomCuts", "    hazard = lambda self, age: 0.1",
        r"gradient mine: .* raises TypeError: Mine\.<lambda>\(\) takes 2 positional arguments but 3 were given",
    ),
    "a build without the number of updates": (
        "optimizer", "Optimizer", "    build = lambda self: optax.sgd(0.1)",
        r"optimizer mine: build raises TypeError: .*\nIt is called as build\(num_updates\)",
    ),
    "an update that returns one value": (
        "optimizer", "Optimizer", "    build = lambda self, num_updates: optax.GradientTransformation("
        "lambda params: (), lambda grads, state, params: grads)",
        r"optimizer mine: the update of its transformation returned dict, and must return \(updates, state",
    ),
    "a build that returns something else": (
        "optimizer", "Optimizer", "    build = lambda self, num_updates: 0.1",
        r"optimizer mine: build returned float, and must return an optax transformation, such as optax\.adam",
    ),
    "an exception in load": (
        "dataset", "Dataset", "    load = lambda self: open('no-such-file')",
        r"dataset mine: load raises FileNotFoundError: .*\n.*mine\.py, line \d+: load = ",
    ),
    "a dataset that returns a string": (
        "dataset", "Dataset", "    load = lambda self: 'so it goes ' * 1000",
        r"dataset mine: load returned str, and must return data, such as seqjax\.Text\(text\)",
    ),
    "ids that are numbers": (
        "launcher", "Launcher", "    launch = lambda self, jobs, show_progress: {job.name: 7 for job in jobs}",
        r"launcher mine: launch returned \{'seed=0': 7, 'seed=1': 7\}, and must return a dict: .* which is a str",
    ),
    "an exception in launch": (
        "launcher", "Launcher", "    launch = lambda self, jobs, show_progress: jobs.no_such_attribute",
        r"launcher mine: launch raises AttributeError: .*\n.*mine\.py, line \d+: launch = ",
    ),
    "a launch that returns nothing": (
        "launcher", "Launcher", "    launch = lambda self, jobs, show_progress: None",
        r"launcher mine: launch returned None, and must return a dict: name of a job -> id, which is a str; \{\} if",
    ),
    "an alive that returns a list": (
        "launcher", "Launcher", LAUNCH + "    alive = lambda self, ids: list(ids)",
        r"launcher mine: alive returned \['seed=0', 'seed=1'\], and must return a dict: id -> 'queued' or 'running'",
    ),
    "another word for a state": (
        "launcher", "Launcher", LAUNCH + '    alive = lambda self, ids: dict.fromkeys(ids, "RUNNING")',
        r"launcher mine: alive returned \{'seed=0': 'RUNNING', .*\}, and must return a dict: id -> 'queued' or",
    ),
}  # fmt: skip
"""Mistake -> kind, base class, body of the class, the message."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_before_training(mistake, tmp_path, monkeypatch, capsys, forget_local_plugins):
    monkeypatch.chdir(tmp_path)
    kind, base, body, message = MISTAKES[mistake]
    Path("mine.py").write_text(HEAD.format(kind=kind, base=base) + body)
    Path("book.txt").write_text("so it goes and on it goes\n" * 200)
    argv = ["run", "--load", "mine.py", f"--{kind}", "mine", "--epochs", "1", "--train", "3000", "--heldout", "300"]
    if kind == "launcher":
        argv += ["--seeds", "0,1"]
    if kind != "dataset":
        argv += ["--dataset", "text-file", "--dataset.path", "book.txt", "--dataset.documents", "lines"]
    if kind != "gradient":
        argv += ["--gradient", "truncated:steps=3"]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 4
    assert Path("runs").exists() == (kind == "launcher"), "which plans them before it is called"


TRACKER_MISTAKES = {
    "a session without a method": (
        "    open = lambda self, run, config, epochs: Partial()",
        r"open returned Partial without figure; it must return",
    ),
    "an exception in row": (
        "    open = lambda self, run, config, epochs: Whole()",
        r"row raises KeyError: 'no-such-column'\n.*mine\.py, line \d+: row = ",
    ),
}  # fmt: skip
"""Mistake -> body of the class, the warning."""
SESSIONS = """

class Partial(seqjax.runs.Session):
    row = lambda self, epoch, values: values["no-such-column"]
    text = close = lambda self, *values: None

class Whole(Partial):
    figure = Partial.text
"""


@pytest.mark.parametrize("mistake", TRACKER_MISTAKES)
def test_a_mistake_of_a_tracker_is_a_warning_and_training_goes_on(
    mistake, tmp_path, monkeypatch, capsys, forget_local_plugins
):
    monkeypatch.chdir(tmp_path)
    body, message = TRACKER_MISTAKES[mistake]
    head = HEAD.format(kind="tracker", base="Tracker").replace("import seqjax\n", "import seqjax.runs\n")
    Path("mine.py").write_text(head + body + SESSIONS)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    assert main(["run", "--load", "mine.py", "--tracker", "mine", *map(str, NGRAM), "--out", "a"]) == 0
    printed = capsys.readouterr()
    assert re.search(rf"^warning  tracker mine: {message}", printed.out, re.M), printed.out
    assert printed.out.count("warning  tracker") == 1
    assert "the same experiment in this folder sends the rest" in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert Path("a/params.safetensors").exists()
