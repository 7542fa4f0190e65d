"""`Experiment`: what is learned, by what, and how; and its config, the text that says so."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqjax.data.dataset import Dataset
from seqjax.data.prepare import DEFAULT_TOKENIZER
from seqjax.data.sampler import Sampler
from seqjax.data.tokenizer import Tokenizer
from seqjax.errors import Error
from seqjax.gradients.base import Gradient
from seqjax.models.model import CountBasedModel, Model
from seqjax.plugin import config
from seqjax.runs import folder
from seqjax.runs.environment import missing_plugins
from seqjax.runs.settings import TRAINING, Scalars, create_default, resolve
from seqjax.training.fit import Counting, Fit, GradientDescent
from seqjax.training.optimizer import Optimizer
from seqjax.training.setup import TrainingSetup


def _default(kind: str) -> Any:
    return field(default_factory=lambda: create_default(kind))


@dataclass(frozen=True, kw_only=True)
class Experiment(Scalars):
    """What is learned, by what, and how, with one seed. What does not change the result is an argument of `run`.

    Raises:
        Error: values of the wrong type or out of range, all at once.
    """

    kind = "experiment"

    dataset: Dataset = _default("dataset")
    """Where the data comes from."""
    tokenizer: Tokenizer | None = None
    """What a model reads of the data; None: the characters of a text, a series as it is."""
    sampler: Sampler | None = None
    """Which windows make an epoch. None: the default one; it stays None for a count-based model, as do `gradient` and
    `optimizer`."""
    model: Model = _default("model")
    """What is trained, or counted."""
    gradient: Gradient | None = None
    """How the gradient goes back through time; None: the default one."""
    optimizer: Optimizer | None = None
    """What an update does with the gradient; None: the default one."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.model, CountBasedModel):
            self._leave_out_training()
            return
        for kind in TRAINING:
            if getattr(self, kind) is None:
                object.__setattr__(self, kind, create_default(kind, self.dataset))

    def _leave_out_training(self):
        """Sets to None what a count-based model does not use; an error where it was given."""
        given = [kind for kind in TRAINING if getattr(self, kind) not in (None, create_default(kind, self.dataset))]
        if self.epochs not in (1, type(self).epochs):
            given.append("epochs")
        if given:
            raise Error(
                f"model {type(self.model).__name__} is count-based, and takes no sampler, gradient, optimizer or "
                f"epochs; leave out: {', '.join(given)}"
            )
        for kind in TRAINING:
            object.__setattr__(self, kind, None)
        object.__setattr__(self, "epochs", 1)

    def setup(self, devices: int | None = None) -> TrainingSetup:
        """How the model is trained.

        Args:
            devices: how many the rows of a batch are sharded over; None: all, or the most that divide the batch.

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
        )

    def fit(self, devices: int | None = None) -> Fit:
        """How the model gets its parameters."""
        return Counting() if isinstance(self.model, CountBasedModel) else GradientDescent(self.setup(devices))

    def run(
        self,
        path: str | Path | None = None,
        *,
        devices: int | None = None,
        progress: bool = False,
        checkpoint_seconds: float = 30.0,
    ) -> Any:
        """Trains, and returns the `Run`. Goes on with an interrupted run of the same experiment, opens a finished one.

        Ctrl-C and SIGTERM save the state, where there is a folder, and then raise `KeyboardInterrupt` and
        `SystemExit`, so that the program ends with 130 or 143.

        Args:
            path: folder to keep the run in; None: in memory, nothing is written.
            devices: how many to shard each batch over; None: all, or the most that divide the batch.
            progress: whether to print what happens.
            checkpoint_seconds: time from one checkpoint to the next, at least.

        Raises:
            Error: a folder that holds another experiment, or that is in use (exit code 5); training that diverges (3);
                a damaged file, or another environment than that in which a run was begun (4).
        """
        # Imported here, since what carries an experiment out makes a Run, which holds its Experiment.
        from seqjax.runs.execute import execute

        return execute(self, None if path is None else Path(path), devices, progress, checkpoint_seconds)

    def to_toml(self) -> str:
        """The config: the scalars, then a table for each plugin, with full ids and all fields.

        Data in memory are named by their hash; `Run.open` finds them in the folder of a run.

        Raises:
            Error: a plugin that is not registered.
        """
        return config.to_toml(config.to_config(self))

    @classmethod
    def from_toml(cls, text: str) -> "Experiment":
        """The experiment whose `to_toml` gave `text`; what is left out is at its default."""
        return cls(**resolve(config.from_toml(text)))


def config_bytes(experiment: Experiment) -> bytes:
    """The config file of a run; an `Error` where UTF-8 lacks one of its symbols."""
    text = experiment.to_toml()
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as fault:
        line = text[: fault.end].rpartition("\n")[2]
        raise Error(f"the config cannot be kept in a file, which is UTF-8: {line!a}…; give it another name") from fault


def read_experiment(path: Path) -> Experiment:
    """The experiment of the run in a folder."""
    if not (path / folder.CONFIG).is_file():
        raise Error(f"{path} holds no run: it has no {folder.CONFIG}; choose another folder")
    missing = missing_plugins(path)
    if missing:
        loads = " ".join(f"--load {file}" for file in missing)
        raise Error(
            f"{path} needs local plugins that are not loaded; it keeps a copy of their files\n"
            f"Read them, since loading runs them, and then add: {loads}"
        )
    kept = folder.read(path / folder.CONFIG, lambda data: config.from_toml(data.decode("utf-8")))
    try:
        return Experiment(**resolve(folder.with_data(kept, path)))
    except Error as fault:
        raise Error(f"{path / folder.CONFIG}: {fault}", exit_code=fault.exit_code) from fault


def differences(kept: Experiment, asked: Experiment, varied: Iterable[str] = ()) -> list[str]:
    """What differs between two experiments, a line each.

    Args:
        kept: one experiment.
        asked: the other one.
        varied: fields to leave out, such as `model.hidden`.
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
