"""`Trained`: a model with its parameters, and the methods that evaluate and use it."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.dataset import Data, Dataset, Pairs, Series, Text, inputs_only
from seqjax.data.preparing import Prepared, check_known, encode, make_stream
from seqjax.data.sampler import draw_plan
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.split import PARTS
from seqjax.data.stream import Stream
from seqjax.data.tokenizer import Codec, PairsCodec, TextCodec, unknown_share
from seqjax.data.windows import gather_windows, make_batch, past_warmup, spread_rows, whole_windows
from seqjax.diagnostics.gradient_by_lag import Lags, check_max_lag, lags
from seqjax.diagnostics.measuring import Measures, WindowSequence, check_options, measure_windows, named_strategies
from seqjax.diagnostics.state_jacobians import Jacobians, jacobians
from seqjax.errors import Error, check_whole
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import ModelProblem
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.objects import check_given
from seqjax.training import forecast
from seqjax.training.evaluating import bits_per_character, evaluate
from seqjax.training.generating import generate
from seqjax.training.initial import InitialState

ROWS = 8
"""The number of rows of `Trained.lags`, if the training part has as many."""
NO_SAMPLES = "no samples could be made"
"""The name under which `Trained.samples` has the reason why there are none."""


@dataclasses.dataclass(eq=False, repr=False)
class Trained:
    """The model of an experiment with its parameters."""

    experiment: ExperimentFields
    """The experiment."""
    codec: Codec | PairsCodec | None
    """Converts between data and inputs of the model; None: the model reads the data as they are."""
    spec: Spec
    """The inputs and targets of the model."""
    params: Params = None
    """The trained parameters."""

    @property
    def problem(self) -> ModelProblem:
        """The model with its loss, as `train`, `value_and_grad` and `evaluate` take it."""
        return self.experiment.model.problem(self.spec, self.experiment.loss)

    @property
    def data(self) -> Data:
        """The dataset, whole: a `Text`, a `Series` or `Pairs`."""
        return self.prepared.source

    @functools.cached_property
    def prepared(self) -> Prepared:
        """The prepared dataset: source, codec and streams."""
        return self.experiment.prepare(self.codec)

    def evaluate(self, data: str | Data = "heldout") -> dict[str, Any]:
        """Loss, number of targets, perplexity and bits per character.

        Every target is evaluated once, in order, from the initial state. A loss is in nats for tokens, else a squared
        error in the units that the model reads.

        Args:
            data: `"train"`, `"heldout"`, `"rest"` (what follows the held-out part), or other data of the kind that
                the run was trained on, or a dataset that loads them.

        Returns:
            `loss`, `tokens`, for tokens `perplexity`, and the metrics of the experiment. For a text that the codec
            gives back exactly also `bits_per_character`, over all characters but those of each document's first token,
            which is not predicted.

        Raises:
            Error: an object of Python is missing; there is no such part; the data are of another kind than those of the
                run, or a text of which the vocabulary has no token. If it lacks some, a warning says which share.
        """
        objects = self.experiment.objects
        check_given({name: value for name, value in objects.items() if name != "optimizer"})
        if isinstance(data, Dataset):
            data = data.load()
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
        if isinstance(part, Text) and (bits := bits_per_character(row, self.text_codec, part)) is not None:
            row["bits_per_character"] = bits
        return row

    def evaluate_stream(self, stream: Stream, problem: ModelProblem | None = None) -> dict[str, Any]:
        """Loss, number of targets, perplexity and the metrics of the experiment, for a stream of this run's spec.

        Args:
            stream: the stream.
            problem: the model with its loss; None: that of the run. A caller that evaluates often keeps one
                (`ModelProblem.fixed`), so that it is compiled once.
        """
        codec = self.codec.targets if isinstance(self.codec, PairsCodec) else self.codec
        decode = codec.decode if codec and isinstance(self.spec.targets, Values) else None
        return evaluate(problem or self.problem, self.params, stream, self.experiment.metrics, decode)

    def measure(
        self,
        gradients: Mapping[str, Gradient] | Sequence[Gradient] | Gradient,
        *,
        draws: int = 100,
        windows: int | None = None,
        at: Literal["init", "end"] = "end",
        params: Params = None,
        seed: int = 0,
        together: int = 1,
        progress: bool | None = None,
    ) -> Measures:
        """Bias, variance, direction, seconds and bytes of gradient strategies on the first windows of the first epoch.

        A model with dropout is measured without dropout. See `seqjax.measure` for what is measured.

        Args:
            gradients: a dict of strategies by name; or a list, or a single one, which are named by their config.
            draws: how many draws from each random strategy.
            windows: how many consecutive windows; None: 3, or all if there are fewer.
            at: `"end"`: the parameters of the run; `"init"`: those before its first update.
            params: other parameters, in place of those of `at`.
            seed: seed of the draws.
            together: how many draws are computed side by side.
            progress: whether to show the progress; None: on a terminal and in a notebook.

        Raises:
            Error: as `seqjax.measure`; the model is count-based; the parameters are not those of the model; an epoch
                has fewer windows.
        """
        named = named_strategies(gradients)
        check_options(named, draws, 1 if windows is None else windows, seed, together)
        params, windows_N = self.windows(windows, at, params)
        return measure_windows(self.problem, params, windows_N, named, draws, seed, together, progress)

    def lags(self, max_lag: int, *, num_rows: int | None = None, num_steps: int | None = None) -> Lags:
        """The parts of the gradient by the number of steps that they travel back, at the parameters of the run.

        The rows are spread over the training part, and each starts from the initial state. See `seqjax.lags`.

        Args:
            max_lag: the largest lag, at most `num_steps`; the parts of this and larger lags are summed.
            num_rows: the number of rows; None: 8, or fewer if the training part has fewer windows.
            num_steps: the number of steps of each row; None: 4 · max_lag, or fewer if no document is as long.

        Raises:
            Error: as `seqjax.lags`; the model is count-based; the training part has fewer windows.
        """
        scan = self._scan(max_lag, num_rows, num_steps)
        return lags(self.problem, self.params, **scan, max_lag=max_lag, batched=True)

    def jacobians(
        self, max_lag: int, *, num_rows: int | None = None, num_steps: int | None = None, every: int = 1
    ) -> Jacobians:
        """The Jacobians of the steps: norms of their products, spectral radius, Lyapunov exponents.

        The rows are chosen as in `lags`. See `seqjax.jacobians`.

        Args:
            max_lag: the largest lag, at most `num_steps`.
            num_rows: as in `lags`.
            num_steps: as in `lags`.
            every: norms and eigenvalues are computed at each `every`-th step.

        Raises:
            Error: as `seqjax.jacobians`; the model is count-based; the training part has fewer windows.
        """
        scan = self._scan(max_lag, num_rows, num_steps)
        return jacobians(
            self.problem, self.params, scan["state"], scan["xs"], max_lag=max_lag, every=every, batched=True
        )

    def _scan(self, max_lag: int, num_rows: int | None, num_steps: int | None) -> dict[str, Any]:
        """The rows of `lags`, with its defaults."""
        check_whole(below_2_to=31, max_lag=(max_lag, 1))
        stream = self.prepared.streams["train"]
        if num_steps is None:
            num_steps = min(4 * max_lag, int(np.diff(stream.bounds).max(initial=0)))
            check_max_lag(max_lag, num_steps)
        check_whole(num_steps=(num_steps, 1))
        if num_rows is None:
            num_rows = max(1, min(ROWS, len(whole_windows(stream, num_steps))))
        return self.scan_arguments(num_rows, num_steps)

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
        if at not in ("init", "end"):
            raise Error(f'at = {at!r} must be "init" or "end"; for other parameters pass params=')
        if params is None:
            params = self.params if at == "end" else InitialState(problem, setup, 1).compute().params
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
            The arguments that `lags`, `estimate` and `measure` take with batched=True: `state`, leaves [B, ...]; `xs`,
            (inputs, targets), leaves [T, B, ...]; `weights`, float[T, B], which are equal for all targets that are
            scored in training, and sum to 1.
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
        draws: dict[str, Any] = {"top_k": top_k, "top_p": top_p, "seed": seed, "unknown": unknown}
        if isinstance(prompt, Iterable) and not isinstance(prompt, str):
            return [self.generate(one, length, temperature, **draws) for one in prompt]
        return generate(self.experiment.model, self.params, self.text_codec, prompt, length, temperature, **draws)

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
                used. For a run on text: a string or a `Text`. A dataset is loaded. A list of arrays, strings or data is
                read one by one, and its elements may have different lengths.
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
        if isinstance(x, Dataset):
            x = x.load()
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

    def _outputs(self, x: Any, ahead: int) -> Any:
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
        outputs = forecast.outputs(self.experiment.model, self.spec, self.params, inputs, starts)
        outputs = np.asarray(outputs, np.float64)
        codec = self.codec.targets if isinstance(self.codec, PairsCodec) else None
        return codec.decode(outputs) if codec else outputs

    def _continue_series(self, how: Callable[..., jax.Array], x: Any, count: int, name: str) -> Any:
        if isinstance(self.codec, TextCodec):
            raise Error("this run was trained on text: use generate(prompt, length) instead of forecast")
        assert not isinstance(self.codec, PairsCodec)  # it is that of a run on pairs
        series = x if isinstance(x, Series) else Series(x)
        forecast.check_series(self.experiment.model, self.spec, series.values.shape, count, name)
        values = jnp.asarray(encode(series, self.codec)[0], self._dtype)
        values_after = np.asarray(how(self.experiment.model, self.spec, self.params, values, count), np.float64)
        return self.codec.decode(values_after) if self.codec else values_after

    @property
    def _dtype(self) -> Any:
        return jax.tree.leaves(self.params)[0].dtype

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


def _shapes(tree: Any) -> Any:
    return jax.tree.map(jnp.shape, tree)
