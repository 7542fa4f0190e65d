"""`Run`: one recipe, carried out."""

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from seqjax import config, folder, registry
from seqjax.check import check_model
from seqjax.contracts import Codec, Params, Spec, Text, Tokens
from seqjax.data import PARTS, Data, encode, next_token_stream, prepare, resolve_tokenizer
from seqjax.devices import make_mesh
from seqjax.display import Display
from seqjax.errors import Error, nearest
from seqjax.evaluate import evaluate, perplexity
from seqjax.experiment import Experiment
from seqjax.generate import generate
from seqjax.problem import ModelProblem, Problem
from seqjax.train import Diverged, training


@dataclasses.dataclass(eq=False, repr=False)
class Run:
    """A recipe and what came of it."""

    experiment: Experiment
    """The recipe."""
    codec: Codec
    """Between text and ids."""
    params: Params = None
    """The trained parameters."""
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """One row an epoch: epoch, update, tokens, seconds, compile_seconds, train_loss, heldout_loss,
    [train_perplexity, heldout_perplexity,] grad_norm, learning_rate, tokens_per_second. Losses are means over
    targets, in nats for tokens; tokens and seconds count from the start, without compiling and evaluating."""
    path: Path | None = None
    """Its folder, if it has one."""
    _prepared: Data | None = None

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """The run kept in a folder.

        Raises:
            Error: no run there, or one without parameters; a local plugin that has to be loaded first; a damaged file
                (exit code 4).
        """
        path = Path(path)
        if not (path / folder.CONFIG).is_file():
            raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
        missing = folder.missing_plugins(path)
        if missing:
            loads = " ".join(f"--load {file}" for file in missing)
            raise Error(
                f"{path} needs local plugins that are not loaded; it keeps a copy of their files\n"
                f"Read them, since loading runs them, and then add: {loads}"
            )
        recipe = folder.read(path / folder.CONFIG, lambda data: config.from_toml(data.decode("utf-8")))
        try:
            experiment = Experiment(**config.resolve(recipe))
        except Error as fault:
            raise Error(f"{path / folder.CONFIG}: {fault}", exit_code=fault.exit_code) from fault
        if not (path / folder.PARAMS).is_file():
            raise Error(f"{path} is unfinished: it has no parameters yet; use another folder")
        tokenizer = resolve_tokenizer(experiment.tokenizer)
        codec = folder.read(path / folder.CODEC, lambda data: tokenizer.load(json.loads(data)))
        metrics = folder.read(path / folder.METRICS, folder.parse_rows)
        run = cls(experiment, codec, metrics=metrics, path=path)
        run.params = folder.read_params(path / folder.PARAMS, jax.eval_shape(run._init_params))
        return run

    @property
    def problem(self) -> ModelProblem:
        """The model with its loss, as `training`, `value_and_grad` and `evaluate` take it."""
        return Problem.of(self.experiment.model, Spec(self.codec.spec))

    @property
    def finished(self) -> bool:
        """Whether all epochs were trained."""
        return bool(self.metrics) and self.metrics[-1]["epoch"] == self.experiment.epochs

    @property
    def data(self) -> Text:
        """The corpus, whole."""
        return self.prepared.source

    @property
    def prepared(self) -> Data:
        """The corpus made ready: source, codec and streams.

        Raises:
            Error: exit code 4: the corpus is no longer the one that the run was trained on.
        """
        if self._prepared is None:
            e = self.experiment
            self._prepared = prepare(e.corpus, e.train, e.heldout, e.tokenizer)
            known = self._prepared.source.sha256
            if self.path:
                known = folder.read(self.path / folder.ENVIRONMENT, lambda data: json.loads(data)["corpus_sha256"])
            if known != self._prepared.source.sha256:
                self._prepared = None
                raise Error(f"{self.path}: its corpus has changed; its sha256 was {known}", exit_code=4)
        return self._prepared

    def metric(self, name: str) -> np.ndarray:
        """One column of the metrics, float64[epochs]."""
        if not self.metrics:
            raise Error("this run has no metrics: it did not come to the end of its first epoch")
        if name not in self.metrics[0]:
            raise Error(
                f"unknown metric {name!r}{nearest(name, self.metrics[0])} ; there are {', '.join(self.metrics[0])}"
            )
        return np.array([row[name] for row in self.metrics], np.float64)

    def evaluate(self, data: str | Text = "heldout") -> dict[str, Any]:
        """Loss, number of targets and perplexity, in order from one fresh state, every target once.

        Args:
            data: `"train"`, `"heldout"`, `"rest"` (what follows the held-out part), or a text of your own.
        """
        if isinstance(data, str):
            if data not in PARTS:
                raise Error(f"no part {data!r}; choose one of {', '.join(PARTS)}, or pass a Text(...)")
            stream = self.prepared.streams[data]
        else:
            stream = next_token_stream(*encode(data, self.codec))
        return evaluate(self.problem, self.params, stream)

    def generate(self, prompt: str, length: int = 100, temperature: float = 0.0, seed: int = 0) -> str:
        """The prompt and its continuation by `length` tokens; see `seqjax.generate.generate`."""
        return generate(self.experiment.model, self.params, self.codec, prompt, length, temperature, seed)

    def plot(self) -> Any:
        """A matplotlib figure of training and held-out perplexity (or loss) by epoch."""
        from seqjax import plot

        return plot.history(
            self.metrics, title=" · ".join(map(registry.name_of, (self.experiment.model, self.experiment.gradient)))
        )

    @functools.cached_property
    def samples(self) -> dict[str, str]:
        """Two continuations of the first characters of the training part, by how they were chosen."""
        prompt = self.codec.decode(self.prepared.streams["train"].inputs[:12])
        return {"greedy": self.generate(prompt, 200), "temperature 0.8": self.generate(prompt, 200, temperature=0.8)}

    def __repr__(self) -> str:
        last = f", heldout_loss={self.metrics[-1]['heldout_loss']:.4g}" if self.metrics else ""
        return f"Run({len(self.metrics)} of {self.experiment.epochs} epochs{last}, path={str(self.path)!r})"

    def _init_params(self) -> Params:
        return self.experiment.model.init(jax.random.key(0), Spec(self.codec.spec))


def execute(experiment: Experiment, path: str | Path | None, devices: int | None, progress: bool) -> Run:
    """What `Experiment.run` does."""
    path = None if path is None else Path(path)
    if path is not None and path.is_dir() and any(path.iterdir()):
        run = _reopen(experiment, path)
        if progress:
            print(f"opened   {path}: it is finished, and was not trained again")
        return run
    data = prepare(experiment.corpus, experiment.train, experiment.heldout, experiment.tokenizer)
    experiment = dataclasses.replace(experiment, tokenizer=resolve_tokenizer(experiment.tokenizer))
    run = Run(experiment, data.codec, path=path, _prepared=data)
    check_model(experiment.model, data.spec)
    epochs = training(
        run.problem,
        data.streams["train"],
        sampler=experiment.sampler,
        gradient=experiment.gradient,
        optimizer=experiment.optimizer,
        epochs=experiment.epochs,
        seed=experiment.seed,
        devices=devices,
    )
    if path is not None:
        _create(run, make_mesh(experiment.sampler.batch_size, devices).size)
    with Display(run, progress, devices) as display:
        try:
            for state, row in epochs:
                run.params = jax.device_put(state.params, jax.devices()[0])
                run.metrics.append(_with_heldout(run, row))
                if path is not None:
                    folder.append_row(path / folder.METRICS, run.metrics[-1])
                display.row(run.metrics[-1])
        except Diverged as fault:
            if path is not None:
                folder.write_params(path / folder.PARAMS, fault.state.params)
                raise Error(f"{fault}\nThe parameters before it are in {path / folder.PARAMS}", exit_code=3) from fault
            raise
    if path is not None:
        _finish(run)
    return run


def _with_heldout(run, row):
    """The row of an epoch with the held-out loss beside the training loss."""
    due = row["epoch"] % run.experiment.evaluate_every == 0 or row["epoch"] == run.experiment.epochs
    losses = {"train_loss": row.pop("train_loss"), "heldout_loss": run.evaluate("heldout")["loss"] if due else math.nan}
    if isinstance(run.codec.spec, Tokens):
        losses |= {name.replace("loss", "perplexity"): perplexity(loss) for name, loss in losses.items()}
    first = {name: row.pop(name) for name in ("epoch", "update", "tokens", "seconds")}
    return first | losses | row


def _reopen(experiment, path):
    """The finished run in `path`, if it is one of this recipe."""
    run = Run.open(path)
    asked = config.to_config(dataclasses.replace(experiment, tokenizer=resolve_tokenizer(experiment.tokenizer)))
    kept = config.to_config(run.experiment)
    differences = [
        f"{key}: there {kept.get(key)}, asked for {asked.get(key)}"
        for key in {**kept, **asked}
        if kept.get(key) != asked.get(key)
    ]
    if differences:
        raise Error(f"{path} holds a run of another recipe; choose another folder", problems=differences)
    if not run.finished:
        raise Error(f"{path} is unfinished, at epoch {len(run.metrics)} of {experiment.epochs}; choose another folder")
    return run


def _create(run, devices):
    """Makes the folder and writes what is known before training."""
    recipe = run.experiment.to_toml()
    record = folder.environment(run.experiment, run.data.sha256, devices)
    with folder.disk_errors(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        try:
            (run.path / folder.CONFIG).open("x").close()  # of two that start here at once, one has it
        except FileExistsError as fault:
            raise Error(f"{run.path} is in use by another run; choose another folder", exit_code=5) from fault
    folder.write(run.path / folder.CONFIG, recipe)
    folder.write(run.path / folder.ENVIRONMENT, json.dumps(record, indent=2) + "\n")
    folder.write(run.path / folder.CODEC, json.dumps(run.codec.to_dict(), ensure_ascii=False) + "\n")
    folder.write(run.path / folder.METRICS, "")
    folder.copy_local_plugins(run.path, run.experiment)


def _finish(run):
    """Writes what is known after training; the parameters last, since they mark a run that can be opened."""
    text = "\n\n".join(f"--- {how} ---\n{text}" for how, text in run.samples.items())
    folder.write(run.path / folder.SAMPLES, text + "\n")
    with folder.disk_errors(run.path):
        run.plot().savefig(run.path / folder.HISTORY, dpi=150)
    folder.write_params(run.path / folder.PARAMS, run.params)
