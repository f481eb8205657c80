"""Code and its fingerprint (docs/formats/fingerprint.md).

fingerprint_of(function, version=) -> Fingerprint     what the code is, and whether it still is
syntax_known(digests)                                 what a worker is told of the client's code
"""

from .fingerprint import Fingerprint, class_fingerprint, fingerprint_of
from .reach import syntax_known

__all__ = ["Fingerprint", "class_fingerprint", "fingerprint_of", "syntax_known"]
