"""Arrays in files of NumPy's own format (.npy), of which nobody knows who wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import BadArray

if TYPE_CHECKING:
    import numpy as np


def load_array(path: str) -> np.ndarray[Any, Any]:
    """The array in a .npy file.

    BadArray for what is none, for one of Python objects, which would have to be unpickled, and for a
    file that is shorter than what it says that it holds.
    """
    import numpy as np

    try:
        np.lib.format.open_memmap(path, mode="r")  # reads the header, and allocates nothing
        array: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, RecursionError) as error:
        raise BadArray(f"{path} holds no array that can be loaded: {str(error)[:300]}") from None
    return array
