"""Plugins: their checked fields, their registry, and configs that describe them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
