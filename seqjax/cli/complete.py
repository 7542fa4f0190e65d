"""Completion in a shell: what may follow the words on the command line."""

import argparse
import os
from collections.abc import Collection

from seqjax.extras import needing

COMPLETING = "_ARGCOMPLETE"
"""The environment variable with which the shell asks for completions. Its value is the position of the program."""
SHELLS = ("bash", "zsh", "fish")
"""The shells for which `seqjax --completion SHELL` prints what to evaluate."""


def verb_to_complete(verbs: Collection[str]) -> str:
    """The verb that was typed, whose parser completes what follows: it takes the verb as its program.

    If no verb was typed, writes the verbs for the shell, and ends the process.
    """
    with needing("all", "completion in a shell"):
        from argcomplete import autocomplete
        from argcomplete.lexers import split_line

    words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    if len(words) > 1 and words[1] in verbs:
        os.environ[COMPLETING] = "2"
        return words[1]
    parser = argparse.ArgumentParser("seqjax")
    parser.add_argument("verb", choices=verbs)
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--completion", choices=SHELLS)
    autocomplete(parser)
    raise AssertionError("unreachable: autocomplete ends the process")


def shell_code(shell: str) -> str:
    """What a shell evaluates to complete the command line of seqjax."""
    with needing("all", "completion in a shell"):
        from argcomplete import shellcode

    return shellcode(["seqjax"], True, shell)
