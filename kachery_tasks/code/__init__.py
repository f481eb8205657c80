"""Code and its fingerprint (docs/formats/fingerprint.md).

fingerprint_of(function, version=) -> Fingerprint     what the code is, and whether it still is
syntax_known(digests)                                 what a worker is told of the client's code
"""

from .callables import callable_fingerprint
from .digests import syntax_known
from .fingerprint import Fingerprint, class_fingerprint, fingerprint_of, package_of

__all__ = [
    "Fingerprint",
    "callable_fingerprint",
    "class_fingerprint",
    "fingerprint_of",
    "package_of",
    "syntax_known",
]
