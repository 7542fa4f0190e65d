"""`Experiment`: dataset, model and training of a run, and the config that describes them."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import optax
from annotated_types import Interval

from seqjax.data.dataset import Data, Dataset
from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, prepare
from seqjax.data.sampler import Sampler
from seqjax.data.tokenizer import Tokenizer
from seqjax.errors import Error
from seqjax.files import path_of
from seqjax.gradients.base import Gradient
from seqjax.gradients.problem import Params
from seqjax.models.model import CountBasedModel, ForeignModel, Model
from seqjax.plugin import config
from seqjax.plugin.base import Plugin
from seqjax.plugin.config import name_fault
from seqjax.report import notebook
from seqjax.report.table import Table
from seqjax.runs import folder
from seqjax.runs.environment import missing_plugins
from seqjax.runs.index import INDEX, run_folders
from seqjax.runs.manifest import check_files
from seqjax.runs.settings import KINDS, TRAINING, Scalars, create_default, resolve
from seqjax.runs.tracking.tracker import Tracker
from seqjax.training.fit import Counting, Fit, GradientDescent
from seqjax.training.metrics import check_names
from seqjax.training.optimizer import Optimizer
from seqjax.training.setup import TrainingSetup


def _default(kind: str) -> Any:
    return field(default_factory=lambda: create_default(kind))


@dataclass(frozen=True, kw_only=True)
class Experiment(Scalars):
    """The dataset, the model and the training of a run. Options that do not change the result are arguments of `run`.

    A config holds plugins, numbers and texts. With anything else, such as a loss or an optax transformation, the
    experiment runs in memory alone.

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

    def __post_init__(self):
        super().__post_init__()
        if problems := check_names(self.metrics):
            raise Error("Experiment cannot be made:", problems=problems)
        if isinstance(self.model, CountBasedModel):
            self._leave_out_training()
            return
        for kind in TRAINING:
            if getattr(self, kind) is None:
                object.__setattr__(self, kind, create_default(kind, self.dataset))

    def _leave_out_training(self):
        """Sets to None what a count-based model does not use; an error if it was given."""
        given = [kind for kind in TRAINING if getattr(self, kind) not in (None, create_default(kind, self.dataset))]
        if self.epochs not in (1, type(self).epochs):
            given.append("epochs")
        given += [
            name
            for name in ("stop_after", "keep", "init_from", "precision")
            if getattr(self, name) not in (None, "last", "float32")
        ]
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
    def overview(self) -> Table:
        """The plugins, the sizes of the parts, epochs and seed; and of all other fields those not at their defaults."""
        usual = (*KINDS, "train", "heldout", "epochs", "seed")
        others = [f.name for f in fields(self) if f.name not in usual and getattr(self, f.name) != f.default]
        known = [(name, getattr(self, name)) for name in (*usual, *others)]
        return Table(("field", "value"), [(name, _in_short(value)) for name, value in known if value is not None])

    def _repr_html_(self) -> str:
        return notebook.show(lambda: self.overview.to_html())

    def run(
        self,
        path: str | Path | None = None,
        *,
        devices: int | None = None,
        progress: bool = False,
        checkpoint_seconds: float = 30.0,
        params: Params | None = None,
        callback: Callable[[Any], Any] | None = None,
        tracker: Tracker | None = None,
    ) -> Any:
        """Trains, and returns the `Run`. Resumes an interrupted run of the same experiment, and opens a finished one.

        With a larger number of epochs, a run in the folder goes on, and ends with the bits that it would have if it had
        been asked for at once. With a folder, Ctrl-C saves the state and raises `KeyboardInterrupt`; SIGTERM, SIGHUP
        and SIGUSR1 save it and raise `SystemExit`. The program ends with exit code 130, 143, 129 or 138. Before the
        first update is computed, as while JAX compiles, there is nothing to save, and a signal but SIGUSR1 does what it
        does elsewhere in the program.

        After `jax.distributed.initialize()`, all processes call it together. Process 0 alone reads and writes the
        folder; in the others the run is in memory, and its `path` is None.

        Args:
            path: the folder of the run; None: the run stays in memory, and nothing is written.
            devices: the number of devices over which rows are sharded; None: the largest number that divides the batch.
            progress: whether to print the progress.
            checkpoint_seconds: least time from one checkpoint to the next, in seconds.
            params: the initial parameters, such as those that `from_flax` returns with a model. They are copied.
            callback: called with the run after each epoch, when its row is in `run.metrics`. Training ends if it
                returns True. A resumed run calls it again for the epochs after its last checkpoint.
            tracker: mirrors the folder of the run, for a viewer such as TensorBoard. If it raises an exception, a
                warning is printed, and training goes on without it.

        Raises:
            Error: the folder holds another experiment, or is in use (exit code 5); training diverges (3); a file is
                damaged, or the run was begun in another environment (4); another process has ended (7).
        """
        # Imported here, since `execute` imports `Run`, which imports this module.
        from seqjax.runs.execute import Options, execute

        options = Options(devices, progress, checkpoint_seconds, params, callback, tracker)
        return execute(self, None if path is None else path_of("path", path), options)

    def to_toml(self) -> str:
        """The config: the scalars, then a table for each plugin, with full ids and all fields.

        Data in memory are written as their hash; `Run.open` reads them from the folder of the run.

        Raises:
            Error: a plugin that is not registered; a field that holds an object of Python.
        """
        objects = {
            "loss": self.loss is not None,
            "metrics": not all(isinstance(metric, str) for metric in self.metrics),
            "optimizer": isinstance(self.optimizer, optax.GradientTransformation),
            "model": isinstance(self.model, ForeignModel),
        }
        if found := [name for name, is_object in objects.items() if is_object]:
            # A loss or a metric is no plugin.
            kinds = found if {*found} <= {"model", "optimizer"} else []
            plugins = ", ".join(f"seqjax new {kind} my-{kind}" for kind in kinds)
            raise Error(
                f"a config cannot hold what was given in Python as: {', '.join(found)}\n"
                "Run this experiment in memory, without a folder"
                + (f"; or write a plugin: {plugins}" if plugins else "")
            )
        return config.to_toml(config.to_config(self))

    @classmethod
    def from_toml(cls, text: str) -> "Experiment":
        """The experiment of a config; fields that it leaves out are at their defaults."""
        return cls(**resolve(config.from_toml(text)))


def _in_short(value: Any) -> str:
    """The value of a field as a short text."""
    if isinstance(value, Plugin):
        return repr(value) if isinstance(value, Data) else config.describe(value)
    if isinstance(value, tuple):
        return ", ".join(map(_in_short, value))
    return str(value) if isinstance(value, int | float | str) else getattr(value, "__name__", type(value).__name__)


def config_bytes(experiment: Experiment) -> bytes:
    """The config file of a run; an `Error` if UTF-8 cannot encode it."""
    text = experiment.to_toml()
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as fault:
        line = text[: fault.end].rpartition("\n")[2]
        raise Error(f"the config cannot be saved as UTF-8: {line!a}…; choose another name") from fault


def read_experiment(path: Path) -> Experiment:
    """The experiment of the run in a folder."""
    if (path / INDEX).is_file() and not (path / folder.CONFIG).is_file():
        runs = ", ".join(run.name for run in run_folders(path)) or "none yet"
        raise Error(f"{path} holds a sweep; name the folder of one of its runs: {runs}")
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
    check_files(path)
    missing = missing_plugins(path)
    if missing:
        loads = " ".join(f"--load {file}" for file in missing)
        raise Error(
            f"{path} needs local plugins that are not loaded; it keeps copies of their files\n"
            f"Loading a file runs it, so read them first, and then add: {loads}"
        )
    kept = folder.read(path / folder.CONFIG, lambda data: config.from_toml(data.decode("utf-8")))
    kept = folder.with_data(kept, path)
    try:
        return Experiment(**resolve(kept))
    except Error as fault:
        # A plugin that is not installed is no damage.
        unknown = any(name_fault(kind, kept[kind]) for kind in KINDS if kind in kept)
        code = 4 if fault.exit_code == 2 and not unknown else fault.exit_code
        raise Error(f"{path / folder.CONFIG}: {fault}", exit_code=code) from fault


def goes_on(kept: Experiment, asked: Experiment) -> bool:
    """Whether a run is asked to go on for more epochs. A count-based model has one."""
    return asked.epochs > kept.epochs and not isinstance(kept.model, CountBasedModel)


def differences(kept: Experiment, asked: Experiment, varied: Iterable[str] = ()) -> list[str]:
    """The differences between two experiments, one line each.

    Args:
        kept: one experiment.
        asked: the other one.
        varied: fields that are left out, such as `model.hidden`.
    """
    default = config.create("tokenizer", DEFAULT_TOKENIZER)
    if {kept.tokenizer, asked.tokenizer} == {None, default}:
        asked = dataclasses.replace(asked, tokenizer=kept.tokenizer)
    if kept == asked:
        return []
    tables = config.to_config(kept), config.to_config(asked)
    for table in tables:
        for name in varied:
            _leave_out(table, *name.split("."))
    return [
        f"{key}: there {tables[0].get(key)}, asked for {tables[1].get(key)}"
        for key in {**tables[0], **tables[1]}
        if tables[0].get(key) != tables[1].get(key)
    ]


def _leave_out(table, name, *inner):
    if not inner:
        table.pop(name, None)
    elif isinstance(table.get(name), dict):
        _leave_out(table[name], *inner)
