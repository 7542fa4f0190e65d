"""The command line: one file a verb."""

from seqjax.cli.command import main as main
