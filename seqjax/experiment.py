"""`Experiment`: the recipe. What is not part of the result is an argument of `run`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqjax import config
from seqjax.contracts import Model, Optimizer, Sampler, Tokenizer
from seqjax.corpus import Corpus
from seqjax.errors import Error
from seqjax.gradient import Gradient


def _default(kind: str) -> Any:
    return field(default_factory=lambda: config.create_default(kind))


@dataclass(frozen=True, kw_only=True)
class Experiment(config.Scalars):
    """One recipe with one seed: what is learned, by what, and how.

    Raises:
        Error: a value of the wrong type or out of range; all of them at once.
    """

    kind = "experiment"

    corpus: Corpus = _default("corpus")
    """Where the data comes from."""
    tokenizer: Tokenizer | None = None
    """What a model reads of the data; None: the characters of a text, a series as it is."""
    sampler: Sampler = _default("sampler")
    """Which windows make an epoch; None of a counted model, and so are the two below the model."""
    model: Model = _default("model")
    """What is trained, or counted."""
    gradient: Gradient = _default("gradient")
    """How the gradient goes back through time."""
    optimizer: Optimizer = _default("optimizer")
    """What an update does with the gradient."""

    def __post_init__(self):
        if not (isinstance(self.model, Model) and self.model.is_counted):
            super().__post_init__()
            return
        counted = {"sampler": None, "gradient": None, "optimizer": None, "epochs": 1}
        defaults = {name: type(self).epochs if name == "epochs" else config.create_default(name) for name in counted}
        given = [name for name in counted if getattr(self, name) not in (counted[name], defaults[name])]
        if given:
            raise Error(
                f"model {type(self.model).__name__} is counted, and takes no sampler, gradient, optimizer or epochs; "
                f"leave out: {', '.join(given)}"
            )
        for name in counted:  # while the other fields are checked
            object.__setattr__(self, name, defaults[name])
        super().__post_init__()
        for name in counted:
            object.__setattr__(self, name, counted[name])

    def run(
        self,
        path: str | Path | None = None,
        *,
        devices: int | None = None,
        progress: bool = False,
        checkpoint_seconds: float = 30.0,
    ) -> Any:
        """Trains, and returns the `Run`. Goes on with an interrupted run of the same recipe, and opens a finished one.

        Ctrl-C and SIGTERM save the state, where there is a folder, and then raise `KeyboardInterrupt` and
        `SystemExit`, so that the program ends with 130 or 143.

        Args:
            path: folder to keep the run in; None: in memory, nothing is written.
            devices: how many to shard each batch over; None: all, or the most that divide the batch.
            progress: whether to print what happens.
            checkpoint_seconds: time from one checkpoint to the next, at least.

        Raises:
            Error: a folder that holds another recipe, or that is in use (exit code 5); training that diverges (3); a
                damaged checkpoint, or another environment than that in which a run was begun (4).
        """
        from seqjax.execute import execute

        return execute(self, None if path is None else Path(path), devices, progress, checkpoint_seconds)

    def to_toml(self) -> str:
        """The recipe as TOML: the scalars, then a table for each plugin, with full ids and all fields.

        Data in memory are named by their hash; `Run.open` finds them in the folder of a run.

        Raises:
            Error: a plugin that is not registered.
        """
        return config.to_toml(config.to_config(self))

    @classmethod
    def from_toml(cls, text: str) -> "Experiment":
        """The recipe whose `to_toml` gave `text`; what is left out is at its default."""
        return cls(**config.resolve(config.from_toml(text)))
