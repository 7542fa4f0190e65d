"""The small run on which verbs of the command line are tried."""

C_LOCALE = {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": None, "PYTHONIOENCODING": None}

TEXT = "the quick brown fox jumps over the lazy dog, und 🎉 für Élise. " * 20

EXPERIMENT = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", 1000, "--heldout", 150),
    *("--sampler.batch-size", 4, "--sampler.num-steps", 8, "--model.hidden", 8, "--epochs", 3),
]
