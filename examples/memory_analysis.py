"""The response of cells to a stimulus, by calcium imaging: results are kept by joblib.

07_from_joblib.py runs copies of this.
"""

import numpy as np
from joblib import Memory

memory = Memory("cache", verbose=0)


def baseline(trace):
    """The fluorescence of a cell at rest."""
    return np.median(trace)


@memory.cache
def response(cell):
    """The largest relative change of fluorescence."""
    random = np.random.default_rng(cell)
    stimulus = np.exp(-(np.arange(1000) % 250) / 60)
    trace = 100 + 80 * stimulus + random.normal(size=1000)
    rest = baseline(trace)  # of the cell
    return float((trace.max() - rest) / rest)


if __name__ == "__main__":
    how = "served" if response.check_call_in_cache(1) else "computed"
    print(f"{response(1):.3f} {how}")
