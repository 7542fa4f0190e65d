"""`Job`: what a run needs before it has a folder."""

import dataclasses
import functools
from collections.abc import Iterator
from dataclasses import dataclass

from seqjax.array_files.arrays import by_name, restore, sha256_of
from seqjax.data.dataset import Data
from seqjax.data.preparing import DEFAULT_TOKENIZER, Prepared, resolve_tokenizer
from seqjax.data.tokenizer import TextCodec
from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params
from seqjax.models.model import ModelProblem
from seqjax.plugin.author import mistakes_of
from seqjax.plugin.config import create
from seqjax.runs.environment import Environment, installation
from seqjax.runs.experiment import ExperimentFields
from seqjax.runs.files import checkpoint
from seqjax.runs.files.codec import encode_codec
from seqjax.runs.fingerprint import Fingerprint, fingerprints
from seqjax.runs.plugin_files import plugin_records
from seqjax.runs.saved import Saved
from seqjax.runs.state import RunState
from seqjax.runs.warm_start import TOKENIZER, check_tokens, params_from
from seqjax.training.epoch import TrainState
from seqjax.training.fit import Fit
from seqjax.training.initial import InitialState
from seqjax.training.metrics import resolve
from seqjax.training.progress import Progress


@dataclass(frozen=True, eq=False)
class Job:
    """What a run needs before it has a folder.

    Args:
        experiment: the experiment, whose tokenizer is that of the data.
        data: the data, with the codec.
        fit: how the model gets its parameters.
    """

    experiment: ExperimentFields
    data: Prepared
    fit: Fit

    @functools.cached_property
    def problem(self) -> ModelProblem:
        """The model with its loss."""
        return self.experiment.model.problem(self.data.spec, self.experiment.loss)

    @functools.cached_property
    def params_like(self) -> Params | None:
        """The structure and shapes of the parameters; None: they depend on the data."""
        return self.fit.params_like(self.problem)

    @functools.cached_property
    def objects(self) -> dict[str, Fingerprint]:
        """The fingerprints of the objects of Python in the experiment, by field. Each object is traced for them."""
        return fingerprints(self.experiment.objects, self.problem, self.params_like)

    @property
    def data_sha256(self) -> dict[str, str]:
        """The hashes of the data by field."""
        return {name: data.sha256 for name, data in self.data.sources.items()}

    @functools.cached_property
    def initial_params_sha256(self) -> str | None:
        """The hash of initial parameters that are given; None: there are none."""
        return None if self.fit.params is None else sha256_of(by_name(self.fit.params))

    @functools.cached_property
    def environment(self) -> Environment:
        """What the run depends on here, if it is trained.

        Raises:
            Error: the rows of a batch cannot be spread over the devices that are asked for.
        """
        return Environment(
            **installation(),
            devices=self.fit.num_devices,
            data_sha256=self.data_sha256,
            initial_params_sha256=self.initial_params_sha256,
            objects=self.objects,
            plugins=plugin_records(self.experiment),
        )

    @property
    def in_memory(self) -> dict[str, Data]:
        """The data that were given in memory, by field, which the folder of the run keeps."""
        return {name: data for name, data in self.data.sources.items() if getattr(self.experiment, name) is data}

    @property
    def codec_text(self) -> str:
        """Codec and spec, as the folder of the run has them."""
        return encode_codec(self.data.codec, self.data.spec)

    def train(self, after: checkpoint.Checkpoint | None = None) -> Iterator[tuple[TrainState, Progress]]:
        """The chunks of the training, as `Fit.train` yields them; those after a checkpoint, if there is one.

        Raises:
            Error: the run cannot be trained. It is raised by the call.
        """
        resolve(self.experiment.metrics, self.data.spec)
        state = progress = None
        if after is not None:
            like = InitialState(self.problem, self.experiment.setup(), 1, self.fit.params).shapes
            state, progress = restore(after.arrays, like), after.progress
        # Only the call is covered, which traces the plugins, and not the chunks: between them the user's callback runs,
        # whose file may be that of a plugin.
        with mistakes_of(*self.experiment.plugins):
            return self.fit.train(self.problem, self.data.streams["train"], state, progress)


def prepare(
    experiment: ExperimentFields,
    source: RunState | None = None,
    devices: int | None = None,
    params: Params | None = None,
    saved: Saved | None = None,
) -> Job:
    """Loads the data of an experiment, fits its tokenizer, and makes its initial parameters if they are given.

    Args:
        experiment: the experiment.
        source: the run `init_from`, whose parameters training starts from; None: there is none. If it has the same
            tokenizer, its vocabulary or scale is used.
        devices: as in `Experiment.run`.
        params: as in `Experiment.run`.
        saved: what the folder of the run holds, on whose number of devices it goes on; None: it is new.

    Raises:
        Error: the data cannot be read; parameters are given twice, or do not fit.
    """
    data = experiment.prepare()
    if source is not None and _reads_alike(source, experiment, data):
        data = experiment.prepare(source.codec)
    experiment = dataclasses.replace(experiment, tokenizer=resolve_tokenizer(experiment.tokenizer, data.source))
    fit = experiment.fit(devices, _initial_params(experiment, data, source, params))
    return Job(experiment, data, fit if saved is None else fit.as_begun(saved.environment.devices))


def _reads_alike(source: RunState, experiment: ExperimentFields, data: Prepared) -> bool:
    """Whether the codec of another run is used: it has the same tokenizer, and can read the data."""
    tokenizers = [e.tokenizer or create("tokenizer", DEFAULT_TOKENIZER) for e in (source.experiment, experiment)]
    if TOKENIZER in experiment.init_anew or tokenizers[0] != tokenizers[1]:
        return False
    is_text = isinstance(source.codec, TextCodec) and isinstance(data.codec, TextCodec)
    return is_text or (type(source.codec) is type(data.codec) and source.spec == data.spec)


def _initial_params(
    experiment: ExperimentFields, data: Prepared, source: RunState | None, given: Params | None
) -> Params | None:
    """The parameters that training starts from; None: those of the model."""
    e = experiment
    if source is None or e.init_from is None:
        return given
    if given is not None:
        raise Error(f"params are given, and init_from = {e.init_from!r} too; leave one of them out")
    if not e.init_anew:
        check_tokens(source.codec, data.codec, e.init_from)
    return params_from(source.params, e.model.problem(data.spec, e.loss), e.setup(), e.init_anew, e.init_from)
