"""The fields of an experiment that are plain values, such as seed and precision; their checks and defaults.

Imports no jax.

A config has the experiment's scalars at the top and a table for each kind of plugin. All faults of all tables are
reported at once. If a name is wrong, the plugins that the config names are imported only if one of them has fields to
check.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Interval

from seqjax.errors import Error
from seqjax.plugin.base import Plugin, faults, fields_of
from seqjax.plugin.config import Config, from_table, located, name_fault, names_object, overlay
from seqjax.plugin.other_names import nearest_field

KINDS = ("dataset", "tokenizer", "sampler", "model", "gradient", "optimizer")
"""The kinds of plugin that an experiment has. The others do not change a result, and no config has them."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "dataset": {"plugin": "seqjax/python-docs"},
    "sampler": {"plugin": "seqjax/sequential"},
    "model": {"plugin": "seqjax/rnn", "hidden": 256},
    "gradient": {"plugin": "seqjax/full"},
    "optimizer": {"plugin": "seqjax/sgd", "learning_rate": 1.0, "clip_norm": 1.0},
}
"""The plugins of an experiment that names no others."""

FOR_VALUES: dict[str, dict[str, Any]] = {
    "optimizer": {"plugin": "seqjax/adam", "learning_rate": 0.001, "clip_norm": 1.0}
}
"""The plugins in place of those of `DEFAULTS` on a dataset of values: the errors of values can have any scale, and the
steps of Adam do not depend on it."""

TRAINING = ("sampler", "gradient", "optimizer")
"""The kinds of plugin that only trained models need; a count-based model has none of them."""

CHECKPOINT_SECONDS = 30.0
"""The least time from one checkpoint of a run to the next, in seconds."""

LAUNCHER = "seqjax/local"
"""The launcher of a sweep on a CPU whose runs are long."""

TABLE_FILE = "seqjax/csv"
"""The dataset that reads tables, whatever the suffix of their file is."""

TEXT_FILE = "seqjax/text-file"
"""The dataset of `seqjax evaluate --text`, which reads a text file."""


def default_table(kind: str, dataset: Any) -> dict[str, Any]:
    """The default table of a kind of plugin, for an experiment on this dataset.

    It is that of `FOR_VALUES` or of `DEFAULTS`, in which the dataset's `sampler_fields` replace fields of the sampler.
    """
    if kind == "sampler":
        return {**DEFAULTS[kind], **dataset.sampler_fields}
    return FOR_VALUES[kind] if kind in FOR_VALUES and dataset.of_values else DEFAULTS[kind]


def defaults_of(config: Config) -> Config:
    """The default tables for the dataset that a config names; those of `DEFAULTS` if it cannot be made."""
    try:
        dataset = from_table("dataset", overlay(DEFAULTS, config)["dataset"])
    except Error:
        return DEFAULTS
    return {kind: default_table(kind, dataset) for kind in DEFAULTS}


def create_default(kind: str, dataset: Any = None) -> Any:
    """The default plugin of a kind, for an experiment on this dataset."""
    return from_table(kind, default_table(kind, dataset))


@dataclass(frozen=True, kw_only=True)
class Scalars(Plugin):
    """The fields of an `Experiment` that are not plugins."""

    train: Annotated[int, Interval(ge=2)] | Annotated[float, Interval(gt=0, le=1)] | None = None
    """The training part, which comes first in the dataset: characters or time steps if an int, a share if a float.
    None: 0.9 of the dataset, or all of it if `heldout` is a dataset."""
    heldout: Annotated[int, Interval(ge=0)] | Annotated[float, Interval(ge=0, lt=1)] = 0.1
    """The held-out part after it, which is evaluated and never trained on; 0: none. Or a dataset of its own, such as
    text-file:path=valid.txt, which is held out whole."""
    epochs: Annotated[int, Interval(ge=1)] = 20
    """The number of passes through the training part; 1 for a count-based model."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 0
    """Seed of the parameters, of the sampler and of the gradient strategy."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """The precision in which training computes the model. bfloat16: products are computed in bfloat16. Parameters, the
    optimizer, losses and sums over time stay in float32. Strategies such as rtrl and uoro are computed in float32."""
    evaluate_every: Annotated[int, Interval(ge=1)] = 1
    """The number of epochs from one held-out evaluation to the next; the last epoch is always evaluated."""
    metrics: tuple[Literal["accuracy", "last_accuracy", "mae", "last_mae"], ...] = ()
    """Numbers beside the loss, computed for both parts when the held-out part is evaluated: the accuracy of tokens, the
    mean absolute error of values in the units of the data; with last_, of the last target of each document alone."""
    stop_after: Annotated[int, Interval(ge=1)] | None = None
    """Training stops after this many epochs without a lower held-out loss. None: it goes through all epochs."""
    keep: Literal["last", "best"] = "last"
    """The parameters that are kept: those of the last epoch; with best, those of the epoch with the lowest held-out
    loss as well."""
    init_from: str | None = None
    """The folder of a run whose parameters training starts from. If the tokenizers are equal, its vocabulary or scale
    is used too. None: the model draws initial parameters."""
    init_which: Literal["last", "best"] = "last"
    """The parameters of that run: those of its last epoch, or of the one with the lowest held-out loss."""
    init_anew: tuple[str, ...] = ()
    """The parameters that are initialized instead of taken from that run, such as W_hq,b_q. With tokenizer, the
    vocabulary or scale is fitted to the own data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.heldout == 0 and (self.stop_after is not None or self.keep == "best"):
            problems.append("heldout = 0: stop_after and keep = 'best' compare held-out losses; hold a part out")
        if self.init_which == "best" and self.init_from is None:
            problems.append("init_which: it chooses the parameters of the run init_from; give init_from too")
        if self.init_anew and self.init_from is None:
            problems.append("init_anew: it names parameters that init_from would give; give init_from too")
        if problems:
            raise Error(f"{type(self).__name__} cannot be made:", problems=problems)
        if self.train is None:
            object.__setattr__(self, "train", 0.9 if isinstance(self.heldout, int | float) else 1.0)


def resolve(config: Config) -> Config:
    """The fields of an `Experiment` from a config, with the defaults of `DEFAULTS`.

    Kinds in `TRAINING` that the config does not name are left to the experiment, which knows whether its model is
    trained. If a name is wrong, the plugins that the config names are imported only if one of them has fields to check.

    Raises:
        Error: all faults of the config at once.
    """
    if objects := [key for key, value in config.items() if names_object(value)]:
        raise Error(
            f"this config only names what was given in Python as: {', '.join(objects)}\n"
            "Run the script that gives it; seqjax.Run.open opens the folder of a run"
        )
    merged = overlay(DEFAULTS, config)
    fields, problems = _scalars(merged, config)
    plugins, more = _plugins(merged, config)
    if problems := [*problems, *more]:
        raise Error("the config is not valid:", problems=problems)
    return fields | plugins


def _scalars(merged: Config, config: Config) -> tuple[Config, list[str]]:
    """The fields of an `Experiment` that are no plugins, with a dataset that is held out, and what is wrong with them.

    Args:
        merged: the config, completed by defaults.
        config: the config.
    """
    known = fields_of(Scalars)
    problems = [
        f"{key}: Experiment has no such field{nearest_field(key, [*known, *KINDS])}"
        for key in config
        if key not in known and key not in KINDS
    ]
    fields = {key: value for key, value in merged.items() if key in known}
    if not isinstance(merged.get("heldout"), Mapping | Plugin):
        return fields, [*problems, *faults(Scalars, fields)]
    try:
        fields["heldout"] = from_table("dataset", merged["heldout"])
    except Error as error:
        problems += located("[heldout]", error)
    return fields, [*problems, *faults(Scalars, {key: value for key, value in fields.items() if key != "heldout"})]


def _plugins(merged: Config, config: Config) -> tuple[Config, list[str]]:
    """The plugins of an `Experiment`, and what is wrong with them.

    Args:
        merged: the config, completed by defaults.
        config: the config.
    """
    made: Config = {}
    problems: list[str] = []
    tables = {kind: merged[kind] for kind in KINDS if kind in config or (kind in merged and kind not in TRAINING)}
    wrong = {kind: fault for kind, table in tables.items() if (fault := name_fault(kind, table))}
    given = {kind for kind in tables if kind in config and kind not in wrong}
    import_given = any(isinstance(tables[kind], Mapping) and len(tables[kind]) > 1 for kind in given)
    for kind, table in tables.items():
        if kind in wrong:
            problems.append(f"[{kind}] {wrong[kind]}")
        elif not wrong or (kind in given and import_given):
            if kind in TRAINING and "dataset" in made and isinstance(config[kind], Mapping):
                table = overlay({kind: default_table(kind, made["dataset"])}, {kind: config[kind]})[kind]
            try:
                made[kind] = from_table(kind, table)
            except Error as fault:
                problems += located(f"[{kind}]", fault)
    return made, problems
