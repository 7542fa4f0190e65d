"""Sequence models: one step each, `Cell` for recurrent networks, modules and weights of other libraries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
