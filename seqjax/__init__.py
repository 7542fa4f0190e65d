"""seqjax: sequence models in JAX, and ways to differentiate through time.

The public names are lazy: `import seqjax` imports neither jax nor any plugin.
"""

import importlib.metadata
import importlib.util
from typing import Any

import lazy_loader

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = importlib.metadata.version("seqjax")


def __getattr__(name: str) -> Any:
    is_public = name.isidentifier() and not name.startswith("_")
    if name not in __all__ and is_public and importlib.util.find_spec(f"{__name__}.{name}"):
        raise AttributeError(f"seqjax has no attribute {name!r} before it is imported: import seqjax.{name}")
    if name not in __all__ and name[:1].isupper():  # maybe the class of a plugin
        from seqjax.plugin.registry import import_line

        if line := import_line(name):
            raise AttributeError(f"seqjax has no attribute {name!r}; it is a plugin: {line}")
    if name not in __all__ and is_public:
        from seqjax.errors import nearest
        from seqjax.plugin.registry import GROUPS, class_names

        plugins = [cls for kind in GROUPS for cls in class_names(kind)]
        raise AttributeError(f"seqjax has no attribute {name!r}{nearest(name, [*__all__, *plugins])}")
    return _attribute(name)
