"""Code and its fingerprint (docs/formats/fingerprint.md).

fingerprint_of(function, version=) -> Fingerprint     what the code is, and whether it still is
Description                                           what a fingerprint is the digest of
coverage_of(description), changes(description, other) what it covers, and what differs, in words
syntax_known(digests)                                 what a worker is told of the client's code
"""

from .callables import callable_fingerprint
from .compare import Coverage, changes, coverage_of
from .description import Description
from .digests import syntax_known
from .fingerprint import Fingerprint, class_fingerprint, fingerprint_of, package_of

__all__ = [
    "Coverage",
    "Description",
    "Fingerprint",
    "callable_fingerprint",
    "changes",
    "class_fingerprint",
    "coverage_of",
    "fingerprint_of",
    "package_of",
    "syntax_known",
]
