"""What every plugin is: checked fields, a registry, and nested dicts that stand for plugins."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
