"""The conformance suite: checks that a plugin does what its contract asks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
