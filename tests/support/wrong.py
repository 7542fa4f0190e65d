"""Registers plugins that are wrong."""

import re
from dataclasses import dataclass

import seqjax


def wrong(kind, *checks):
    """A decorator for the class of a plugin that these checks must reject; its name follows from that of the class."""

    def decorate(cls):
        cls.rejected_by = set(checks)
        return seqjax.register(kind, name_of(cls.__name__))(dataclass(frozen=True)(cls))

    return decorate


def name_of(cls):
    """The name of the plugin of a class: `goes-uphill` for `GoesUphill`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", cls).lower()
