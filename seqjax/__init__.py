"""seqjax: sequence models in JAX, and ways to differentiate through time.

The public names are lazy: `import seqjax` imports neither jax nor any plugin.
"""

import importlib.metadata

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = importlib.metadata.version("seqjax")
