"""What other libraries call the fields of an experiment, for errors that say what to write instead."""

from collections.abc import Container, Iterable

from seqjax.errors import nearest

OTHER_NAMES = {
    "epochs": ("num_epochs", "n_epochs", "max_epochs"),
    "seed": ("random_seed", "random_state"),
    "heldout": ("valid", "validation", "val", "test"),
    "dataset": ("data",),
    "gradient": ("method", "strategy"),
    "model.hidden": ("hidden", "hidden_size", "hidden_dim", "num_hiddens", "units", "width", "dim"),
    "model.layers": ("layers", "num_layers", "n_layers", "depth"),
    "model.dropout": ("dropout",),
    "optimizer.learning_rate": ("lr", "learning_rate", "step_size"),
    "optimizer.clip_norm": ("clip", "clip_norm", "grad_clip", "max_grad_norm", "gradient_clip_val"),
    "sampler.batch_size": ("batch", "batch_size", "bs"),
    "sampler.num_steps": ("num_steps", "seq_len", "seq_length", "sequence_length", "bptt", "bptt_steps", "block_size"),
    "tokenizer.vocab_size": ("vocab_size",),
}
"""Field of an experiment, or of a plugin in it -> what else it is called."""

_FIELD_OF = {other: field for field, others in OTHER_NAMES.items() for other in others}


def field_meant(name: str, known: Container[str]) -> str | None:
    """The field that a name of another library means, if it is known here.

    Args:
        name: such as `lr`.
        known: the names of fields, or of the kinds that have fields: `optimizer.learning_rate` is known if
            `optimizer` is, and is shortened to `learning_rate` if that is.
    """
    field = _FIELD_OF.get(name.lower().replace("-", "_"), "")
    kind, _, inner = field.rpartition(".")
    if inner in known:
        return inner
    return field if kind in known else None


def nearest_field(name: str, known: Iterable[str]) -> str:
    """`'; did you mean "x"?'` for the field that is meant, else for the nearest ones; or an empty string."""
    known = list(known)
    field = field_meant(name, known)
    return f"; did you mean {field!r}?" if field else nearest(name, known)
