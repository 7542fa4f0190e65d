"""The names that other libraries give to the fields of an experiment, for errors that say what to write instead."""

from collections.abc import Container, Iterable

from seqjax.errors import nearest

OTHER_NAMES = {
    "batch_size": "sampler.batch_size",
    "bptt": "sampler.num_steps",
    "clip": "optimizer.clip_norm",
    "dropout": "model.dropout",
    "embedding_dim": "model.embedding",
    "hidden": "model.hidden",
    "hidden_dim": "model.hidden",
    "hidden_size": "model.hidden",
    "layers": "model.layers",
    "learning_rate": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "max_grad_norm": "optimizer.clip_norm",
    "num_layers": "model.layers",
    "num_steps": "sampler.num_steps",
    "output_dir": "out",
    "patience": "stop_after",
    "seq_len": "sampler.num_steps",
    "units": "model.hidden",
    "validation_split": "heldout",
    "weight_decay": "optimizer.weight_decay",
}
"""A name that is common in PyTorch, Keras, Flax or Hugging Face -> the field or the flag that it means here."""


def field_meant(name: str, known: Container[str]) -> str | None:
    """The field that a name of another library means, if it is known here.

    Args:
        name: such as `lr`.
        known: the names of fields, or of the kinds that have fields: `optimizer.learning_rate` is known if
            `optimizer` is, and is shortened to `learning_rate` if that is.
    """
    field = OTHER_NAMES.get(name.lower().replace("-", "_"), "")
    kind, _, inner = field.rpartition(".")
    if inner in known:
        return inner
    return field if kind in known else None


def nearest_field(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown field: what is meant, else the nearest field, else nothing."""
    known = list(known)
    field = field_meant(name, known)
    return f"; did you mean {field!r}?" if field else nearest(name, known)
