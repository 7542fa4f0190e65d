"""`ExperimentFields`: dataset, model and training of a run, as a value that knows nothing of folders."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Self

import optax
from annotated_types import Interval

from seqjax.data.dataset import Data, Dataset
from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, prepare
from seqjax.data.sampler import Sampler
from seqjax.data.tokenizer import Tokenizer
from seqjax.errors import Error
from seqjax.gradients.contract.gradient import Gradient
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import CountBasedModel, Model
from seqjax.plugin import config
from seqjax.plugin.base import Plugin
from seqjax.report.shown import Shown
from seqjax.report.table import Table
from seqjax.runs.settings import KINDS, TRAINING, Scalars, create_default, resolve
from seqjax.training.fit import Counting, Fit, GradientDescent
from seqjax.training.metrics import check_names, name_of
from seqjax.training.optimizer import Optimizer
from seqjax.training.setup import TrainingSetup


def _default(kind: str) -> Any:
    return field(default_factory=lambda: create_default(kind))


@dataclass(frozen=True, kw_only=True)
class ExperimentFields(Shown, Scalars):
    """The fields of an experiment, and what follows from them; see `Experiment`.

    Raises:
        Error: values of the wrong type or out of range, all at once.
    """

    kind = "experiment"

    dataset: Dataset = _default("dataset")
    """The dataset."""
    heldout: Annotated[int, Interval(ge=0)] | Annotated[float, Interval(ge=0, lt=1)] | Dataset = Scalars.heldout  # type: ignore[assignment]
    """The held-out part after the training part, which is evaluated and never trained on: characters or time steps if
    an int, a share if a float; 0: none. Or a dataset of its own, which is held out whole."""
    tokenizer: Tokenizer | None = None
    """Converts the data to inputs of the model. None: a text becomes characters, a series stays as it is."""
    sampler: Sampler | None = None
    """Chooses the windows of an epoch. None: the default one; it stays None for a count-based model, as do `gradient`
    and `optimizer`."""
    model: Model = _default("model")
    """The model that is trained, or counted."""
    gradient: Gradient | None = None
    """The gradient strategy; None: the default one."""
    optimizer: Optimizer | optax.GradientTransformation | None = None
    """Turns the gradient into an update: a plugin, or any optax transformation; None: the default one."""
    metrics: tuple[Any, ...] = ()
    """Numbers beside the loss, computed for both parts when the held-out part is evaluated: `"accuracy"`, `"mae"`,
    `"last_accuracy"`, `"last_mae"`, or functions (output, target) -> float; see `seqjax.evaluate`."""
    loss: Callable[..., Any] | None = None
    """(output, target) -> float[], the loss of one step; None: the cross-entropy of tokens, the mean squared error of
    values."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if problems := check_names(self.metrics):
            raise Error("Experiment cannot be made:", problems=problems)
        if isinstance(self.model, CountBasedModel):
            self._leave_out_training()
            return
        for kind in TRAINING:
            if getattr(self, kind) is None:
                object.__setattr__(self, kind, create_default(kind, self.dataset))

    def _leave_out_training(self) -> None:
        """Sets to None what a count-based model does not use; an error if it was given."""
        given = [kind for kind in TRAINING if getattr(self, kind) not in (None, create_default(kind, self.dataset))]
        if self.epochs not in (1, type(self).epochs):
            given.append("epochs")
        others = ("stop_after", "keep", "init_from", "precision")
        given += [name for name in others if getattr(self, name) != getattr(type(self), name)]
        if given:
            raise Error(
                f"model {type(self.model).__name__} is count-based, and takes no sampler, gradient, optimizer or "
                f"epochs; leave out: {', '.join(given)}"
            )
        for kind in TRAINING:
            object.__setattr__(self, kind, None)
        object.__setattr__(self, "epochs", 1)

    def prepare(self, codec: Any = None) -> Prepared:
        """Loads and splits the data, fits the tokenizer on the training part, and encodes all parts.

        Args:
            codec: the codec of an earlier run, which is used in place of a new one.
        """
        assert self.train is not None  # `Scalars` has replaced None
        return prepare(self.dataset, self.train, self.heldout, self.tokenizer, codec)

    def setup(self, devices: int | None = None) -> TrainingSetup:
        """How the model is trained.

        Args:
            devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.

        Raises:
            Error: the model is count-based.
        """
        if self.sampler is None or self.gradient is None or self.optimizer is None:
            raise Error(f"model {type(self.model).__name__} is count-based: it is not trained, and has no gradient")
        return TrainingSetup(
            sampler=self.sampler,
            gradient=self.gradient,
            optimizer=self.optimizer,
            epochs=self.epochs,
            seed=self.seed,
            devices=devices,
            precision=self.precision,
        )

    def fit(self, devices: int | None = None, params: Params | None = None) -> Fit:
        """How the model gets its parameters.

        Args:
            devices: as in `setup`.
            params: initial parameters; None: those of the model.
        """
        return Counting() if isinstance(self.model, CountBasedModel) else GradientDescent(self.setup(devices), params)

    @property
    def plugins(self) -> list[Plugin]:
        """The plugins in its fields."""
        return [value for f in fields(self) if isinstance(value := getattr(self, f.name), Plugin)]

    @property
    def overview(self) -> Table:
        """The plugins, the sizes of the parts, epochs and seed; and of all other fields those not at their defaults."""
        usual = (*KINDS, "train", "heldout", "epochs", "seed")
        others = [f.name for f in fields(self) if f.name not in usual and getattr(self, f.name) != f.default]
        known = [(name, getattr(self, name)) for name in (*usual, *others)]
        return Table(("field", "value"), [(name, _in_short(value)) for name, value in known if value is not None])

    def _parts(self) -> list[str | Table]:
        return [self.overview]

    @property
    def objects(self) -> dict[str, Any]:
        """The objects of Python that a config only names, by field; a metric is `metrics.NAME`."""
        fields = {name: getattr(self, name) for name in ("model", "optimizer", "loss")}
        metrics = {f"metrics.{name_of(one)}": one for one in self.metrics}
        return {name: value for name, value in {**fields, **metrics}.items() if config.is_object(value)}

    def to_toml(self) -> str:
        """The config: the scalars, then a table for each plugin, with full ids and all fields.

        Data in memory are written as their hash; `Run.open` reads them from the folder of the run. Of objects of
        Python, such as an optax transformation, only the names are written; `Run.open` takes the objects.

        Raises:
            Error: a plugin that is not registered.
        """
        return config.to_toml(config.to_config(self))

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The experiment of a config; fields that it leaves out are at their defaults."""
        return cls(**resolve(config.from_toml(text)))


def _in_short(value: Any) -> str:
    """The value of a field as a short text."""
    if isinstance(value, Data):
        return repr(value)
    if isinstance(value, tuple) and not config.is_object(value):
        return ", ".join(map(_in_short, value))
    return str(value) if isinstance(value, int | float | str) else config.describe(value)


def config_bytes(experiment: ExperimentFields) -> bytes:
    """The config file of a run; an `Error` if UTF-8 cannot encode it."""
    text = experiment.to_toml()
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as fault:
        line = text[: fault.end].rpartition("\n")[2]
        raise Error(f"the config cannot be saved as UTF-8: {line!a}…; choose another name") from fault


def differences(kept: config.Config, asked: config.Config, varied: Iterable[str] = ()) -> list[str]:
    """The differences between the configs of two experiments, one line each, such as `model.hidden: 8 → 16`.

    Of two plugins with different names, only the fields are compared that both have.

    Args:
        kept: one config.
        asked: the other one.
        varied: fields that are left out, such as `model.hidden`.
    """
    kept = _whole(kept)
    # An experiment may leave out the tokenizer of a text.
    default = config.to_table(config.create("tokenizer", DEFAULT_TOKENIZER))
    is_default = all(table.get("tokenizer", default) == default for table in (kept, asked))
    left_out = [*varied, *(["tokenizer"] if is_default else [])]
    there, here = map(_by_field, (kept, asked))
    lines = []
    for key in {**there, **here}:
        one, other, plugin = there.get(key), here.get(key), key.rpartition(".")[0]
        is_left_out = any(f"{key}.".startswith(f"{name}.") for name in left_out)
        is_of_one_plugin = None in (one, other) and there.get(plugin) != here.get(plugin)
        if one != other and not is_left_out and not is_of_one_plugin:
            lines.append(f"{key}: {_value(one)} → {_value(other)}")
    return lines


def _whole(table: config.Config) -> config.Config:
    """The config with the fields that it lacks at their defaults: those that were added after it was written."""
    defaults = {f.name: f.default for f in fields(ExperimentFields) if f.default not in (MISSING, None)}
    whole = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()} | table
    for name, value in table.items():
        if isinstance(value, dict):
            with contextlib.suppress(Error):  # data in memory, an object of Python, or a plugin that is not known
                whole[name] = config.to_table(config.from_table("dataset" if name == "heldout" else name, value))
    return whole


def _by_field(table: config.Config) -> dict[str, Any]:
    """The values of a config by field, such as `model.hidden`; of a plugin, its name.

    The names of objects of Python are left out: they may change, and the objects are compared by their fingerprints.
    """
    flat = {key.removesuffix(".plugin"): value for key, value in config.flatten(table).items()}
    return {key: value for key, value in flat.items() if flat.get(key.rpartition(".")[0]) != config.PYTHON_OBJECT}


def _value(value: Any) -> str:
    """A value of a config as a short text."""
    if value is None:
        return "none"
    return "given in Python" if value == config.PYTHON_OBJECT else config.short(value)
