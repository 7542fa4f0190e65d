"""The conformance suite: whether a plugin does what it says. Needs no test framework."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
