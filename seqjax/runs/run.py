"""`Run`: a trained experiment, with methods that evaluate and use its model."""

import dataclasses
import functools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.dataset import Data, Pairs, Series, Text, inputs_only
from seqjax.data.preparing import Prepared, check_known, encode, load_codec, make_stream
from seqjax.data.sampler import draw_plan
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.split import PARTS
from seqjax.data.stream import Stream
from seqjax.data.tokenizer import Codec, PairsCodec, TextCodec, unknown_share
from seqjax.data.windows import gather_windows, make_batch, past_warmup, spread_rows
from seqjax.diagnostics.measuring import WindowSequence
from seqjax.errors import Error, nearest
from seqjax.files import path_of
from seqjax.gradients.problem import Params
from seqjax.models.check import check_steps
from seqjax.models.model import ModelProblem
from seqjax.parse import from_json
from seqjax.plugin.config import describe
from seqjax.report import notebook
from seqjax.report.table import Table
from seqjax.runs import checkpoint, folder
from seqjax.runs.environment import read_environment
from seqjax.runs.experiment import Experiment, read_experiment
from seqjax.runs.manifest import read_manifest
from seqjax.runs.params_file import read_params
from seqjax.runs.rows import check_count, read_rows
from seqjax.terminal.shell import argument
from seqjax.training import forecast
from seqjax.training.evaluating import evaluate, predicted_characters
from seqjax.training.generating import generate
from seqjax.training.loop import init_train_state

COLUMNS = (
    *("epoch", "update", "tokens", "seconds", "train_loss", "heldout_loss", "train_perplexity", "heldout_perplexity"),
    *("compile_seconds", "grad_norm", "learning_rate", "tokens_per_second"),
)
"""The columns of a run's metrics; perplexities where targets are tokens."""
LOSSES = {"heldout_loss": "held-out loss", "train_loss": "training loss"}
"""The losses of both parts, with the names that a reader sees."""
NO_SAMPLES = "no samples could be made"
"""The name under which `Run.samples` has the reason why there are none."""


@dataclasses.dataclass(eq=False, repr=False)
class Run:
    """An experiment with its parameters and metrics."""

    experiment: Experiment
    """The experiment."""
    codec: Codec | PairsCodec | None
    """Converts between data and inputs of the model; None: the model reads the data as they are."""
    spec: Spec
    """The inputs and targets of the model."""
    params: Params = None
    """The trained parameters."""
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """One row per epoch: epoch, update, tokens, seconds, compile_seconds, train_loss, heldout_loss,
    [train_perplexity, heldout_perplexity,] grad_norm, learning_rate, tokens_per_second, and the metrics of the gradient
    strategy. Losses are means over targets, in nats for tokens; tokens and seconds count from the start, without
    compiling and evaluating."""
    path: Path | None = None
    """The folder of the run, if it has one."""
    diverged: bool = False
    """Whether training ended early because a loss or gradient was not finite."""
    stopped_at: int | None = None
    """The epoch after which the callback ended training, if it did."""
    changed: list[str] = dataclasses.field(default_factory=list)
    """The names of the files that were changed by hand and adopted; see `seqjax adopt`."""
    which: Literal["last", "best"] = "last"
    """The epoch of the parameters: the last one, or the one with the lowest held-out loss."""
    best_in_memory: Params = None
    """The parameters of the best epoch of a run without a folder; see `best_params`."""
    _prepared: Prepared | None = None

    @classmethod
    def open(cls, path: str | Path, which: Literal["last", "best"] = "last") -> "Run":
        """The run kept in a folder.

        Args:
            path: the folder.
            which: the parameters: those of the last epoch, or with `"best"` those of the epoch with the lowest held-out
                loss, if the experiment has keep = "best".

        Raises:
            Error: the folder holds no run, or one without parameters; a local plugin must be loaded first; a file is
                damaged (exit code 4).
        """
        check_which(which)
        path = path_of("path", path)
        experiment = read_experiment(path)
        tokenizer = experiment.tokenizer
        # Before the rows are read: a process that trains the run writes the last row, and then the parameters.
        has_params = (path / folder.PARAMS).is_file()

        def parse(data):
            saved = from_json(data)
            codec = load_codec(tokenizer, saved["codec"]) if tokenizer else None
            spec = Spec.from_dict(saved["spec"])
            if codec is not None and not isinstance(codec, PairsCodec) and spec != Spec(codec.spec):
                raise ValueError(f"its codec is of {codec.spec}, and its spec is {spec}")
            return codec, spec

        codec, spec = folder.read(path / folder.CODEC, parse)
        run = cls(experiment, codec, spec, metrics=read_rows(path), path=path)
        run.changed = read_manifest(path).changed
        run.diverged = (path / folder.DIVERGED).is_file()
        run.stopped_at = folder.read_stopped(path)
        like = experiment.fit().params_like(run.problem)
        if has_params:
            run.params = read_params(path, like)
            if like is None:
                _check_counts(run)
            if which != "last":
                run.params, run.which = run.best_params, which
            if not (run.finished or run.diverged):
                raise Error(
                    f"{path / folder.METRICS}: it has rows of {len(run.metrics)} epochs, but training ends "
                    f"after {experiment.epochs}\n"
                    f"The parameters are safe in {folder.PARAMS}. Restore the file, or use another folder",
                    exit_code=4,
                )
            return run
        last = checkpoint.newest(path)
        if last is None:
            raise Error(f"{path} is unfinished: it has no parameters yet; the command that began it resumes it")
        if which != "last":
            raise Error(f"{path} is unfinished: its best epoch is not known yet; the command that began it resumes it")
        check_count(path, run.metrics, last.progress.epochs_done)
        run.params = last.params(like)
        run.metrics = run.metrics[: last.progress.epochs_done]
        return run

    @property
    def problem(self) -> ModelProblem:
        """The model with its loss, as `training`, `value_and_grad` and `evaluate` take it."""
        return self.experiment.model.problem(self.spec, self.experiment.loss)

    @property
    def codec_text(self) -> str:
        """Codec and spec as the folder keeps them."""
        saved = {"spec": self.spec.to_dict(), "codec": self.codec.to_dict() if self.codec else None}
        return json.dumps(saved) + "\n"

    @property
    def finished(self) -> bool:
        """Whether training has come to its end: after all epochs, or earlier, as `ending` says."""
        last = self.metrics[-1]["epoch"] if self.metrics else 0
        return last == self.experiment.epochs or bool(self.ending)

    @property
    def ending(self) -> str:
        """Why training ended before all epochs were trained; empty if it did not."""
        last = self.metrics[-1]["epoch"] if self.metrics else 0
        patience = self.experiment.stop_after
        if last == 0 or last == self.experiment.epochs:
            return ""
        if last == self.stopped_at:
            return f"the callback ended training after epoch {last}"
        best = None if patience is None else self.best_epoch  # which looks at all rows
        if patience is not None and best is not None and last - best >= patience:
            return f"the held-out loss was lowest after epoch {best}, and training ended {patience} epochs later"
        return ""

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest held-out loss, the first of them; None if no epoch was evaluated."""
        losses = {row["epoch"]: row["heldout_loss"] for row in self.metrics if not math.isnan(row["heldout_loss"])}
        return min(losses, key=losses.__getitem__) if losses else None

    @property
    def best_params(self) -> Params:
        """The parameters of `best_epoch`.

        Raises:
            Error: the experiment does not keep them.
        """
        name = "this run" if self.path is None else f"the run {self.path}"
        if self.best_epoch is None:
            raise Error(f"{name} has no best epoch: training ended before the held-out part was evaluated")
        if self.experiment.keep != "best":
            raise Error(
                f"{name} keeps the parameters of the last epoch alone: train it with keep = 'best' (--keep best), in "
                "another folder"
            )
        if self.path is None:
            return self.best_in_memory
        like = self.experiment.fit().params_like(self.problem)
        return read_params(self.path, like, folder.BEST, self.best_epoch)

    @property
    def data(self) -> Data:
        """The dataset, whole: a `Text`, a `Series` or `Pairs`."""
        return self.prepared.source

    @property
    def prepared(self) -> Prepared:
        """The prepared dataset: source, codec and streams.

        Raises:
            Error: exit code 4: the dataset is no longer the one that the run was trained on.
        """
        if self._prepared is None:
            try:
                prepared = self.experiment.prepare(self.codec)
            except Error as fault:
                if self.path is None or fault.exit_code != 2:
                    raise
                raise Error(
                    f"{fault}\nThe data are named in {self.path / folder.CONFIG}. If a file was moved, write its new "
                    f"place there, and then type: seqjax adopt {argument(self.path)}"
                ) from fault
            self.check_data(prepared.sources)
            self._prepared = prepared
        return self._prepared

    @functools.cached_property
    def data_hashes(self) -> dict[str, str]:
        """The sha256 of the data that the run was made with: of the `dataset`, and of a `heldout` of its own."""
        if self.path is None:
            return {name: data.sha256 for name, data in self.prepared.sources.items()}
        return dict(read_environment(self.path)["data_sha256"])

    def check_data(self, sources: dict[str, Data]) -> None:
        """Raises an `Error` with exit code 4 unless these are the data that the run was made with."""
        if self.path is None:
            return
        for name, data in sources.items():
            if data.sha256 != self.data_hashes.get(name):
                raise Error(
                    f"{self.path}: its {name} has changed; its sha256 was {self.data_hashes.get(name)}\n"
                    "Restore the old data, or train in another folder",
                    exit_code=4,
                )

    def metric(self, name: str) -> np.ndarray:
        """One column of the metrics, float64[epochs].

        Raises:
            Error: there is no such column, or no epoch is complete.
        """
        if not self.metrics:
            raise Error("this run has no metrics: it did not finish its first epoch")
        check_metric(name, self.metrics[0])
        return np.array([row[name] for row in self.metrics], np.float64)

    def evaluate(self, data: str | Data = "heldout") -> dict[str, Any]:
        """Loss, number of targets, perplexity and bits per character.

        Every target is evaluated once, in order, from the initial state. A loss is in nats for tokens, else a squared
        error in the units that the model reads.

        Args:
            data: `"train"`, `"heldout"`, `"rest"` (what follows the held-out part), or other data of the kind that
                the run was trained on.

        Returns:
            `loss`, `tokens`, for tokens `perplexity`, and the metrics of the experiment. For a text that the codec
            gives back exactly also `bits_per_character`, over all characters but those of each document's first token,
            which is not predicted.

        Raises:
            Error: there is no such part; the data are of another kind than those of the run, or a text of which the
                vocabulary has no token. If it lacks some of them, a warning says which share.
        """
        if isinstance(data, str):
            if data not in PARTS:
                raise Error(f"no part {data!r}; choose one of {', '.join(PARTS)}, or pass a Text(...) or Series(...)")
            part, stream = self.prepared.parts[data], self.prepared.streams[data]
        elif isinstance(data, Data):
            part, stream = data, make_stream(data, self.codec, self.spec)
            check_known(data, self.codec)
        else:
            raise Error(f"evaluate takes one of {', '.join(PARTS)}, or a Text, Series or Pairs, not {data!r:.80}")
        row = self.evaluate_stream(stream)
        if isinstance(part, Text) and row["tokens"]:
            characters = predicted_characters(self.text_codec, part)
            if characters:
                row["bits_per_character"] = row["loss"] * row["tokens"] / math.log(2) / characters
        return row

    def evaluate_stream(self, stream: Stream) -> dict[str, Any]:
        """Loss, number of targets, perplexity and the metrics of the experiment, for a stream of this run's spec."""
        codec = self.codec.targets if isinstance(self.codec, PairsCodec) else self.codec
        decode = codec.decode if codec and isinstance(self.spec.targets, Values) else None
        return evaluate(self.problem, self.params, stream, self.experiment.metrics, decode)

    def windows(self, count: int | None, at: str, params: Params) -> tuple[Params, WindowSequence]:
        """The parameters and the first windows of the first epoch, as `measure` takes them.

        Args:
            count: the number of windows; None: 3, or all if there are fewer.
            at: `"init"`: the parameters before the first update; `"end"`: those of the run.
            params: other parameters; None: those of `at`.

        Raises:
            Error: the model is count-based; parameters of another structure; an epoch has fewer windows.
        """
        setup, problem, stream = self.experiment.setup(), self.problem, self.prepared.streams["train"]
        if params is None:
            params = self.params if at == "end" else init_train_state(problem, setup, 1).params
        elif _shapes(params) != _shapes(self.experiment.fit().params_like(problem)):
            raise Error("params are not those of the run's model: pass a tree like run.params")
        num_steps = setup.sampler.num_steps
        plan = draw_plan(setup.sampler, stream.bounds, setup.seed, 0)
        count = min(3, len(plan.starts)) if count is None else count
        if count > len(plan.starts):
            raise Error(f"windows = {count} must be from 1 to {len(plan.starts)}, which is an epoch of this run")
        plan = past_warmup(plan, problem.warmup, num_steps)
        rows_B = jnp.arange(setup.sampler.batch_size, dtype=jnp.int32)
        stream, plan = gather_windows(stream, jax.tree.map(lambda a: np.asarray(a[:count]), plan), num_steps)
        batches = jax.vmap(lambda plan: make_batch(stream, plan, num_steps, rows_B)[0])(jax.tree.map(jnp.asarray, plan))
        return params, WindowSequence(problem.init_rows(params, setup.sampler.batch_size), batches)

    def scan_arguments(self, num_rows: int, num_steps: int) -> dict[str, Any]:
        """Rows that are spread over the training part, each from the initial state.

        Args:
            num_rows: the number of rows, B.
            num_steps: the number of steps of each row, T, which lie in one document.

        Returns:
            The arguments that `lags`, `value_and_grad` and `measure` take: `state`, leaves [B, ...]; `xs`, (inputs,
            targets), leaves [T, B, ...]; `weights`, float[T, B], which are equal for all targets that are scored in
            training, and sum to 1.
        """
        self.experiment.setup()  # an error if the model has no gradient
        batch = spread_rows(self.prepared.streams["train"], num_rows, num_steps, self.problem.warmup)
        state = self.problem.init_rows(self.params, num_rows)
        return {"state": state, "xs": batch.xs, "weights": batch.weights}

    def generate(
        self,
        prompt: Any,
        length: int = 100,
        temperature: float = 0.0,
        *,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        unknown: bool = False,
    ) -> Any:
        """The prompt, continued by `length` tokens; for a list of prompts, a list.

        Args:
            prompt: the beginning of the text, or a list of them.
            length: the number of tokens to add.
            temperature: 0 chooses the likeliest token. Otherwise token i is drawn with a probability
                ∝ p_i^(1/temperature).
            top_k: draws from the k likeliest tokens only.
            top_p: draws from the smallest set of likeliest tokens whose probabilities sum to at least p.
            seed: the seed of the draws; equal arguments give equal texts.
            unknown: whether `<unk>` may be chosen, and whether unknown tokens of a prompt are read as `<unk>`.

        Raises:
            Error: the run was not trained on a text; an argument is out of range; the prompt has unknown tokens, and
                `unknown` is False.
        """
        several = isinstance(prompt, Iterable) and not isinstance(prompt, str)
        texts = [
            generate(
                self.experiment.model,
                self.params,
                self.text_codec,
                one,
                length,
                temperature,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                unknown=unknown,
            )
            for one in (prompt if several else [prompt])
        ]
        return texts if several else texts[0]

    @property
    def text_codec(self) -> TextCodec:
        """The codec of a run on text.

        Raises:
            Error: the run was trained on something else.
        """
        if not isinstance(self.codec, TextCodec):
            instead = "predict(x)" if self._has_targets else "forecast(history, steps) or predict(x)"
            raise Error(f"this run was not trained on text, so it cannot generate text: use {instead}")
        return self.codec

    def predict(self, x: Any, ahead: int = 1) -> Any:
        """Predictions of the model for new data, which it reads from the initial state.

        Args:
            x: for a run on a series: a `Series`, float[n, dim] or float[n]. For a run on pairs: inputs like those that
                it was trained on, int[n], float[n, dim] or float[n], of one document; or `Pairs`, whose targets are not
                used. For a run on text: a string or a `Text`. A list of arrays, strings or data is read one by one, and
                its elements may have different lengths.
            ahead: for a run on a series: the number of steps from the last known value to the predicted one.

        Returns:
            For a run on a series: float[n, dim], in the units of the series. Entry t is the prediction of x[t] from
            x[0], ..., x[t - ahead]. The model reads those, and then its own predictions. The first
            ahead + model.warmup entries are NaN.

            For a run on pairs: float[n, width], in the units of the targets. Entry t is the output of the model after
            it read input t, which is the prediction of target t. If targets are tokens, it holds the logits. The first
            model.warmup entries of each document are NaN.

            For a run on text: float[n, tokens], the logits of the token after each of the n tokens.

            For a list: a list.

        Raises:
            Error: the model cannot read `x`; `ahead` is not a whole number, at least 1, or is not 1 for pairs or text.
        """
        if isinstance(x, list) and any(isinstance(one, np.ndarray | jax.Array | str | Data) for one in x):
            return [self.predict(one, ahead) for one in x]
        if self._has_targets or isinstance(self.codec, TextCodec):
            return self._outputs(x, ahead)
        return self._continue_series(forecast.predict, x, ahead, "ahead")

    def forecast(self, history: Any, steps: int) -> np.ndarray:
        """The values that follow a series, float[steps, dim], in its units. The model reads its own forecasts.

        Args:
            history: a `Series`, float[n, dim] or float[n]; read from the initial state.
            steps: the number of values to predict.

        Raises:
            Error: the run was trained on text or on pairs; the history is too short for the model.
        """
        if self._has_targets:
            raise Error("this run was trained on pairs, so it cannot forecast a series: use predict(x)")
        return self._continue_series(forecast.forecast, history, steps, "steps")

    @property
    def _has_targets(self) -> bool:
        """Whether the run was trained on pairs, and not to predict the next entry of what it reads."""
        if self.codec is not None:
            return isinstance(self.codec, PairsCodec)
        if self.spec.inputs != self.spec.targets or isinstance(self.spec.inputs, Tokens):
            return True
        # A series that is read as it is has the same spec as pairs of equal dims.
        return isinstance(self.data, Pairs)

    def _outputs(self, x, ahead):
        if ahead != 1:
            what = "text" if isinstance(self.codec, TextCodec) else "pairs"
            raise Error(f"this run was trained on {what}, which is not predicted ahead: leave ahead = {ahead} out")
        if isinstance(self.codec, TextCodec):
            if not isinstance(x, str | Text):
                raise Error(f"this run was trained on text, and predicts a string or a Text, not {x!r:.60}")
            xs, bounds = encode(Text(x) if isinstance(x, str) else x, self.codec)
        else:
            pairs = x if isinstance(x, Pairs) else inputs_only(x, self.spec)
            xs, bounds = make_stream(pairs, self.codec, self.spec).inputs, pairs.bounds
        starts = np.zeros(len(xs), bool)
        starts[bounds[:-1][np.diff(bounds) > 0]] = True
        inputs = jnp.asarray(xs, None if isinstance(self.spec.inputs, Tokens) else self._dtype)
        found = forecast.outputs(self.experiment.model, self.spec, self.params, inputs, starts)
        found = np.asarray(found, np.float64)
        return self.codec.targets.decode(found) if isinstance(self.codec, PairsCodec) and self.codec.targets else found

    def _continue_series(self, how, x, count, name):
        if isinstance(self.codec, TextCodec):
            raise Error("this run was trained on text: use generate(prompt, length) instead of forecast")
        assert not isinstance(self.codec, PairsCodec)  # it is that of a run on pairs
        x = (x if isinstance(x, Series) else Series(x)).values
        forecast.check_series(self.experiment.model, self.spec, x.shape, count, name)
        values = jnp.asarray(self.codec.encode(x) if self.codec else x, self._dtype)
        found = np.asarray(how(self.experiment.model, self.spec, self.params, values, count), np.float64)
        return self.codec.decode(found) if self.codec else found

    @property
    def _dtype(self):
        return jax.tree.leaves(self.params)[0].dtype

    def plot(self) -> Any:
        """A matplotlib figure of training and held-out perplexity (or loss) by epoch; see `seqjax.plot.history`."""
        from seqjax.report import plot

        return plot.history(self.metrics, title=plot.title_of([self.experiment]))

    @functools.cached_property
    def samples(self) -> dict[str, str]:
        """Two continuations of the first tokens of the training part, by method of choice; empty without a text.

        If they cannot be made, the only entry is `NO_SAMPLES` with the reason: a text that only illustrates a run must
        not end the run with an error.
        """
        if not isinstance(self.codec, TextCodec):
            return {}
        try:
            prompt = self.first_tokens(12)
            greedy, drawn = self.generate(prompt, 200), self.generate(prompt, 200, temperature=0.8)
            return {"greedy": greedy, "temperature 0.8": drawn}
        except Exception as fault:  # whatever a tokenizer's `join` or a model's `step` raises
            return {NO_SAMPLES: f"{type(fault).__name__}: {fault}"}

    def first_tokens(self, count: int) -> str:
        """The text of the first tokens of the training part, as a prompt; empty if the vocabulary lacks one of them."""
        codec = self.text_codec
        text = codec.decode(self.prepared.streams["train"].inputs[:count])
        return "" if unknown_share(codec, codec.encode(text)) else text

    def _repr_html_(self) -> str:
        return notebook.show(
            lambda: notebook.text(self._headline()),
            lambda: self._losses().to_html() if self.metrics else "",
            lambda: notebook.curves({label: [row[name] for row in self.metrics] for name, label in LOSSES.items()}),
            lambda: notebook.details("experiment", self.experiment.overview.to_html()),
        )

    def _headline(self) -> str:
        """What was run, how far it went, and where it is kept."""
        e = self.experiment
        words = [*map(describe, filter(None, (e.model, e.gradient))), f"{len(self.metrics)} of {e.epochs} epochs"]
        words += ["diverged"] if self.diverged else []
        words += [self.ending] if self.ending else []
        words += [f"parameters of epoch {self.best_epoch}"] if self.which == "best" else []
        words += [f"changed by hand: {', '.join(self.changed)}"] if self.changed else []
        return " · ".join([*words, *([] if self.path is None else [str(self.path)])])

    def _losses(self) -> Table:
        """The metrics of both parts after the last and the best epoch."""
        last, best = len(self.metrics), self.best_epoch
        epochs = {f"last epoch, {last}": last} | ({} if best in (None, last) else {f"best epoch, {best}": best})
        rows = [
            (f"{label} {name.removeprefix(part)}", *(self.metrics[epoch - 1][name] for epoch in epochs.values()))
            for part, label in (("heldout_", "held-out"), ("train_", "training"))
            for name in self.metrics[0]
            if name.startswith(part)
        ]
        return Table(("", *epochs), rows)

    def __repr__(self) -> str:
        last = f", heldout_loss={self.metrics[-1]['heldout_loss']:.4g}" if self.metrics else ""
        path = "" if self.path is None else f", path={str(self.path)!r}"
        path += f", which='best' of epoch {self.best_epoch}" if self.which == "best" else ""
        changed = f", changed={self.changed}" if self.changed else ""
        return f"Run({len(self.metrics)} of {self.experiment.epochs} epochs{last}{path}{changed})"


def check_metric(name: str, known: Iterable[str]) -> None:
    """Raises an `Error` if there is no column of this name."""
    if name not in list(known):  # a list has no value that it cannot compare
        raise Error(f"unknown metric {name!r}{nearest(name, known)}; there are {', '.join(known)}")


def check_which(which: str) -> None:
    """Raises an `Error` unless this is `"last"` or `"best"`."""
    if which not in ("last", "best"):
        raise Error(f"which = {which!r}: choose 'last' or 'best'")


def _check_counts(run):
    """Raises an `Error` unless a count-based model, whose parameters have no fixed form, can read those of its run."""
    try:
        check_steps(run.experiment.model, run.spec, run.params)
    except Error as fault:
        raise Error(f"{run.path / folder.PARAMS} has no parameters of this model: {fault}", exit_code=4) from fault


def _shapes(tree):
    return jax.tree.map(jnp.shape, tree)
