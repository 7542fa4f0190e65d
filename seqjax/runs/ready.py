"""Prepares a run in memory: its data, its codec, and how its model is fitted."""

import dataclasses
from typing import NamedTuple

from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, resolve_tokenizer
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error
from seqjax.gradients.problem import Params
from seqjax.plugin.config import create
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.state import RunState
from seqjax.runs.warm_start import TOKENIZER, check_tokens, params_from
from seqjax.training.fit import Fit


class Ready[R: RunState](NamedTuple):
    """A run in memory that has its data, and how it is fitted."""

    run: R
    fit: Fit


def get_ready[R: RunState](
    experiment: ExperimentFields,
    run_class: type[R],
    source: RunState | None = None,
    devices: int | None = None,
    params: Params | None = None,
) -> Ready[R]:
    """Loads the data of an experiment, fits its tokenizer, and makes its initial parameters if they are given.

    Args:
        experiment: the experiment.
        run_class: the class of the run.
        source: the run `init_from`, whose parameters training starts from; None: there is none. If it has the same
            tokenizer, its vocabulary or scale is used.
        devices: as in `Experiment.run`.
        params: as in `Experiment.run`.

    Raises:
        Error: the data cannot be read; parameters are given twice, or do not fit.
    """
    data = experiment.prepare()
    if source is not None and _reads_alike(source, experiment, data):
        data = experiment.prepare(source.codec)
    experiment = dataclasses.replace(experiment, tokenizer=resolve_tokenizer(experiment.tokenizer, data.source))
    run = run_class(experiment, data.codec, data.spec, _prepared=data)
    return Ready(run, experiment.fit(devices, _initial_params(run, source, params)))


def _reads_alike(source: RunState, experiment: ExperimentFields, data: Prepared) -> bool:
    """Whether the codec of another run is used: it has the same tokenizer, and can read the data."""
    tokenizers = [e.tokenizer or create("tokenizer", DEFAULT_TOKENIZER) for e in (source.experiment, experiment)]
    if TOKENIZER in experiment.init_anew or tokenizers[0] != tokenizers[1]:
        return False
    is_text = isinstance(source.codec, TextCodec) and isinstance(data.codec, TextCodec)
    return is_text or (type(source.codec) is type(data.codec) and source.spec == data.spec)


def _initial_params(run: RunState, source: RunState | None, given: Params | None) -> Params | None:
    """The parameters that training starts from; None: those of the model."""
    e = run.experiment
    if source is None or e.init_from is None:
        return given
    if given is not None:
        raise Error(f"params are given, and init_from = {e.init_from!r} too; leave one of them out")
    if not e.init_anew:
        check_tokens(source.codec, run.codec, e.init_from)
    return params_from(source.params, run.problem, e.setup(), e.init_anew, e.init_from)
