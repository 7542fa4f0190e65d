"""The names that other libraries give to the fields of an experiment, for errors that say what to write instead."""

from collections.abc import Container, Iterable

from seqjax.errors import nearest

OTHER_NAMES = {
    "epochs": ("num_epochs", "n_epochs", "max_epochs", "max_epoch", "nepochs", "num_train_epochs", "nb_epoch"),
    "seed": ("random_seed", "random_state", "manual_seed", "data_seed"),
    "heldout": (
        *("valid", "validation", "val", "test", "validation_split", "validation_data", "validation_file"),
        *("val_split", "val_size", "val_fraction", "test_size", "eval_dataset", "val_dataset"),
    ),
    "stop_after": ("patience", "early_stopping", "early_stop", "early_stopping_patience"),
    "keep": (
        *("keep_best", "save_best", "save_best_only", "save_top_k", "restore_best_weights", "load_best_model_at_end"),
    ),
    "precision": ("fp16", "bf16", "amp", "half", "mixed_precision", "dtype", "torch_dtype", "autocast"),
    "evaluate_every": ("eval_every", "eval_interval", "eval_steps", "validation_freq", "check_val_every_n_epoch"),
    "metrics": ("compute_metrics", "eval_metric"),
    "loss": ("criterion", "loss_fn", "loss_function", "objective"),
    "init_from": ("pretrained", "init_checkpoint", "warm_start", "finetune", "load_weights"),
    "dataset": ("data", "train_data", "train_dataset", "train_dataloader", "dataset_name", "dataset_path"),
    "dataset.path": ("data_path", "data_dir", "train_file", "data_file", "input_file"),
    "tokenizer": ("tokenizer_name",),
    "gradient": ("method", "strategy"),
    "model": ("arch", "architecture", "network", "net", "rnn_type", "model_type", "model_name", "model_name_or_path"),
    "model.hidden": (
        *("hidden", "hidden_size", "hidden_dim", "hidden_units", "num_hiddens", "n_hidden", "nhid", "units", "width"),
        *("dim", "d_model", "rnn_size", "hidden_features"),
    ),
    "model.layers": ("layers", "num_layers", "n_layers", "nlayers", "n_layer", "depth", "num_hidden_layers"),
    "model.embedding": ("emsize", "embedding_dim", "embedding_size", "embed_dim", "emb_dim", "n_embd", "embed_size"),
    "model.dropout": ("dropout", "dropout_rate", "dropout_p", "hidden_dropout_prob"),
    "model.recurrent_dropout": ("recurrent_dropout",),
    "model.initializer": ("initializer", "kernel_initializer", "weight_init", "recurrent_initializer"),
    "optimizer": ("optim", "opt"),
    "optimizer.learning_rate": ("lr", "learning_rate", "step_size", "initial_lr", "init_lr"),
    "optimizer.schedule": ("lr_scheduler", "lr_scheduler_type", "lr_schedule", "scheduler"),
    "optimizer.warmup": ("warmup", "warmup_ratio", "warmup_steps", "num_warmup_steps"),
    "optimizer.weight_decay": ("weight_decay", "wd", "weightdecay"),
    "optimizer.b1": ("beta1", "beta_1", "adam_beta1"),
    "optimizer.b2": ("beta2", "beta_2", "adam_beta2"),
    "optimizer.eps": ("epsilon", "adam_epsilon"),
    "optimizer.clip_norm": (
        *("clip", "clip_norm", "clipnorm", "grad_clip", "max_norm", "max_grad_norm", "global_clipnorm"),
        *("gradient_clip", "gradient_clip_val", "gradient_clipping", "clip_grad_norm"),
    ),
    "sampler.batch_size": ("batch", "batch_size", "batchsize", "bs", "train_batch_size", "per_device_train_batch_size"),
    "sampler.num_steps": (
        *("num_steps", "seq_len", "seq_length", "sequence_length", "max_seq_len", "max_seq_length", "context_length"),
        *("bptt", "bptt_steps", "tbptt_steps", "truncated_bptt_steps", "block_size", "time_steps", "timesteps"),
        *("n_steps", "window_size", "unroll"),
    ),
    "sampler.stride": ("stride",),
    "tokenizer.vocab_size": ("vocab_size",),
    "length": ("max_new_tokens", "max_tokens", "num_tokens", "gen_length"),
}
"""Field of an experiment, or of a plugin in it, or argument of `generate` -> what else it is called."""

OF_RUN = {
    "path": ("out", "out_dir", "output_dir", "save_dir", "log_dir", "logdir", "logging_dir", "work_dir", "run_dir"),
    "devices": (
        *("devices", "num_devices", "n_devices", "num_gpus", "n_gpus", "n_gpu", "gpus", "ngpus", "nproc_per_node"),
    ),
    "tracker": ("tracker", "logger", "report_to"),
    "checkpoint_seconds": ("checkpoint_seconds", "save_steps", "save_every", "save_interval", "checkpoint_every"),
    "callback": ("callback", "callbacks"),
    "progress": ("progress",),
}
"""Argument of `Experiment.run` -> what it, or its flag, is called."""

NO_FIELD = {
    "JAX chooses the device: a GPU or TPU if it finds one (pip install 'seqjax[cuda]' or 'seqjax[tpu]'), else the CPU; "
    "the environment variable JAX_PLATFORMS=cpu forces the CPU": (
        *("gpu", "cuda", "tpu", "device", "accelerator", "use_gpu", "use_cuda", "no_cuda", "cpu", "use_cpu", "mps"),
    ),
    "a run is resumed by the same command with the same --out, in Python by the same call of run(path)": (
        *("resume", "resume_from", "resume_from_checkpoint", "restore", "load_checkpoint"),
        *("checkpoint", "ckpt", "ckpt_path", "continue"),
    ),
    "the progress is shown on a terminal and in a notebook; in Python, run(progress=True) prints it elsewhere too": (
        *("verbose", "quiet", "log_interval", "log_every", "logging_steps", "log_every_n_steps", "progress_bar"),
        *("enable_progress_bar", "print_every"),
    ),
    "the data are in memory, and no process loads them: leave it out": (
        *("workers", "num_workers", "dataloader_num_workers", "pin_memory", "prefetch"),
    ),
    "training is counted in epochs; --dry-run prints the updates of one": (
        *("max_steps", "max_iters", "iterations", "num_iterations", "n_iter", "total_steps", "steps_per_epoch"),
    ),
    "no built-in optimizer has it; in Python, any optax transformation is one, such as optax.sgd(0.1, momentum=0.9)": (
        *("momentum", "nesterov", "amsgrad"),
    ),
    "these are two fields, b1 and b2": ("betas",),
    "a model reads a sequence forwards only: leave it out": ("bidirectional",),
    "no weights are tied: leave it out": ("tied", "tie_weights", "tie_embeddings", "tie_word_embeddings"),
    "the sizes of inputs and outputs come from the data: leave it out": (
        *("input_size", "input_dim", "in_features", "input_shape", "output_size", "output_dim", "out_features"),
        *("num_classes", "num_labels", "ntoken", "num_embeddings"),
    ),
    "a model computes one step of one sequence, and returns all outputs: leave it out": (
        *("batch_first", "return_sequences", "return_state", "stateful"),
    ),
}
"""What to say of names for which there is no field -> these names."""

_FIELD_OF = {other: field for field, others in OTHER_NAMES.items() for other in others}
_OPTION_OF = {other: option for option, others in OF_RUN.items() for other in others}
_SAID_OF = {other: text for text, others in NO_FIELD.items() for other in others}


def field_meant(name: str, known: Container[str]) -> str | None:
    """The field that a name of another library means, if it is known here.

    Args:
        name: such as `lr`.
        known: the names of fields, or of the kinds that have fields: `optimizer.learning_rate` is known if
            `optimizer` is, and is shortened to `learning_rate` if that is.
    """
    field = _FIELD_OF.get(_as_field(name), "")
    kind, _, inner = field.rpartition(".")
    if inner in known:
        return inner
    return field if kind in known else None


def option_meant(name: str) -> str | None:
    """The argument of `Experiment.run` that a name means."""
    return _OPTION_OF.get(_as_field(name))


def why_no_field(name: str) -> str:
    """What to do instead, for a name for which there is no field, as the end of an error; else an empty string."""
    text = _SAID_OF.get(_as_field(name))
    return f"; {text}" if text else ""


def nearest_field(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown field: what is meant, else the nearest field, else nothing."""
    known = list(known)
    if field := field_meant(name, known):
        return f"; did you mean {field!r}?"
    option = option_meant(name) if "epochs" in known else None  # an experiment, which has the method
    return f"; it is an argument of run: run({option}=...)" if option else why_no_field(name) or nearest(name, known)


def _as_field(name: str) -> str:
    return name.lower().replace("-", "_")
