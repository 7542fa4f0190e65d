"""What is refused of a run that a folder holds. Values are compared, and nothing is written.

| the folder holds | the same command | with more epochs |
|---|---|---|
| nothing | begins | |
| a run that has begun | continues from the last checkpoint | the same |
| a run that has ended | opens it | continues; refused if the result could differ from that of a new run |
| a run that has diverged | raises the same error | an error |
| another experiment, or other files | an error | an error |
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from seqjax.errors import Error
from seqjax.models.model import CountBasedModel
from seqjax.plugin.config import to_config
from seqjax.runs.experiment import ExperimentFields, differences
from seqjax.runs.files import folder
from seqjax.runs.files.data import encode_data, read_data
from seqjax.runs.files.manifest import content_of
from seqjax.runs.fingerprint import Fingerprint, changed_objects, uncertain_objects
from seqjax.runs.job import Job
from seqjax.runs.plugin_files import check_loaded
from seqjax.runs.saved import Saved
from seqjax.terminal.stream import line
from seqjax.training.optimizer import Optimizer, depends_on_num_updates


def refuse_other(saved: Saved, experiment: ExperimentFields) -> None:
    """Refuses another experiment than the one in the folder, but for more epochs. No data are needed.

    Raises:
        Error: the experiments differ; local plugins are not loaded.
    """
    check_loaded(saved.path, saved.environment.plugins)
    if problems := differences(saved.config, to_config(experiment), ["epochs"] if goes_on(saved, experiment) else []):
        advice = "\nA run can continue for more epochs, and not for fewer" if saved.epochs > experiment.epochs else ""
        raise Error(f"{saved.path} holds a run of another experiment; choose another folder{advice}", problems=problems)


def goes_on(saved: Saved, experiment: ExperimentFields) -> bool:
    """Whether a run is asked to go on for more epochs. False for a count-based model, which always has one epoch."""
    return experiment.epochs > saved.epochs and not isinstance(experiment.model, CountBasedModel)


def refuse_changed(saved: Saved, job: Job) -> None:
    """Refuses a job whose data, objects of Python or initial parameters are not those of the run.

    Raises:
        Error: something has changed, and is named. Exit code 4 for the data.
    """
    path, then = saved.path, saved.environment
    refuse_objects(path, then.objects, job.objects)
    is_foreign = "model" in job.objects and job.experiment.init_from is None
    if is_foreign and job.initial_params_sha256 not in (None, then.initial_params_sha256):
        raise Error(
            f"{path} was begun with other initial params of the model; no file was touched\n"
            "Give the params as they were then, such as with the same seed of the module, or choose another folder"
        )
    refuse_data(path, then.data_sha256, job.data_sha256)
    for field, data in job.in_memory.items():
        # Equal data of another source, or with other names of columns, have other bytes: only then the file is read.
        if saved.manifest.files.get(folder.DATA[field]) != content_of(encode_data(data)):
            read_data(path, field, data.sha256)


def refuse_environment(saved: Saved, job: Job, but: Collection[str] = ()) -> None:
    """Refuses to train a run on where its result could have other bits.

    Args:
        saved: what the folder of the run holds.
        job: the job, which `refuse_changed` does not refuse.
        but: names of entries of the environment that may differ.

    Raises:
        Error: exit code 4: the environment differs, or the tokenizer gives other ids.
    """
    path, then, now = saved.path, saved.environment, job.environment
    if saved.codec_text != job.codec_text:
        raise Error(f"{path}: its tokenizer no longer gives the ids that it was trained on", exit_code=4)
    # `refuse_changed` compares objects of Python.
    if problems := then.differences(now, [*but, *then.objects, *now.objects]):
        raise Error(
            f"{path} was begun in another environment, so that its result could change here\n"
            "Resume it in that environment, in as many processes (--devices sets the number of devices, and with the "
            "launcher local --launcher.jobs does), or train in another folder:",
            problems=problems,
            exit_code=4,
        )


def refuse_objects(path: Path, then: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> None:
    """Refuses other objects of Python than those with which the run in a folder was made.

    Of an object that was traced with other versions of libraries, only the structure of what it returns is compared. A
    warning says so if its program differs.

    Raises:
        Error: an object has changed. The message names it.
    """
    if problems := changed_objects(then, now):
        raise Error(
            f"{path} was made with other objects of Python; no file was touched\n"
            "Give the objects as they were then; other ones need another folder:",
            problems=problems,
        )
    if uncertain := uncertain_objects(then, now):
        line("warning", f"{path}: only the structure could be compared of {', '.join(uncertain)}")


def refuse_data(path: Path, then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuses other data than those of the run in a folder, with exit code 4.

    Args:
        path: the folder.
        then: the hashes of its data by field.
        now: those of the data now.
    """
    for name, sha256 in now.items():
        if sha256 != then.get(name):
            raise Error(
                f"{path}: its {name} has changed; its sha256 was {then.get(name)}\n"
                "Restore the old data, or train in another folder",
                exit_code=4,
            )


def refuse_kept(saved: Saved, experiment: ExperimentFields) -> None:
    """Refuses more epochs if what a run of fewer epochs has kept is not enough to continue it.

    Raises:
        Error: it has diverged; its optimizer's state is not kept; its last epoch was evaluated only because it was the
            last.
    """
    if saved.manifest.ended == "diverged":
        raise _refusal(saved, experiment, "it has diverged")
    if saved.manifest.ended and saved.checkpoint is None:
        raise _refusal(saved, experiment, f"the state of its optimizer is not kept in {folder.CHECKPOINTS}")
    every = experiment.evaluate_every
    if len(saved.rows) == saved.epochs and saved.epochs % every:  # also before the results are written
        why = f"its last epoch was evaluated, and is no multiple of evaluate_every = {every}"
        raise _refusal(saved, experiment, why)


def refuse_more_epochs(saved: Saved, job: Job) -> None:
    """Refuses more epochs if the result could have other bits than that of a new run of all epochs.

    Raises:
        Error: see `refuse_kept`; the updates of its optimizer depend on the number of epochs.
    """
    refuse_kept(saved, job.experiment)
    optimizer = job.experiment.optimizer
    if isinstance(optimizer, Optimizer) and depends_on_num_updates(optimizer, job.params_like):
        why = "the updates of its optimizer depend on the number of epochs, by a schedule or a warm-up"
        raise _refusal(saved, job.experiment, why)


def _refusal(saved: Saved, experiment: ExperimentFields, why: str) -> Error:
    """The error of a run that cannot be continued to more epochs."""
    return Error(
        f"{saved.path} cannot be continued from {saved.epochs} to {experiment.epochs} epochs with the result of a run "
        f"of {experiment.epochs}: {why}\nTrain {experiment.epochs} epochs in another folder"
    )
