"""Arrays of one step that are parts of one array, so that a scan stacks them by one kernel."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


@dataclass(frozen=True)
class Packing:
    """Which of several arrays are packed into one, whose last axis has the entries of all of them.

    Args:
        widths: for each array the length of its last axis, or None if it stays an array of its own.
    """

    widths: tuple[int | None, ...]

    @classmethod
    def of(cls, arrays: Sequence[Any], packs: bool) -> Self:
        """A packing of arrays with these shapes and dtypes.

        Args:
            arrays: those that have the dtype and the leading axes of the first one are packed.
            packs: False: each is an array of its own.
        """
        kinds = [(a.dtype, a.shape[:-1], a.ndim > 0) for a in arrays]
        alike = [packs and kinds.count(kinds[0]) > 1 and kind == kinds[0] for kind in kinds]
        return cls(tuple(a.shape[-1] if use else None for a, use in zip(arrays, alike, strict=True)))

    def pack(self, arrays: Sequence[Array]) -> list[Array]:
        """The packed array, if there is one, and then the others."""
        given = list(zip(arrays, self.widths, strict=True))
        packed = [a for a, width in given if width is not None]
        others = [a for a, width in given if width is None]
        return [jnp.concatenate(packed, -1), *others] if packed else others

    def unpack(self, packed: Sequence[Array]) -> list[Array]:
        """The arrays that `pack` was given; both may have further leading axes."""
        widths = [width for width in self.widths if width is not None]
        parts = iter(jnp.split(packed[0], np.cumsum(widths)[:-1], -1) if widths else [])
        others = iter(packed[1:] if widths else packed)
        return [next(others if width is None else parts) for width in self.widths]
