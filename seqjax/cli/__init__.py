"""The command line: one file per verb."""

from seqjax.cli.command import main as main
