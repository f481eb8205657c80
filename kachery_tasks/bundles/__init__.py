"""Bundles: a value with its lineage in one file, that others can verify offline, and import.

bundle(x, path)         writes one
verify_bundle(path)     checks all of one
import_bundle(path)     brings one into the store, as far as its signers are trusted
"""

from .checking import BundleReport, verify_bundle
from .importing import Imported, import_bundle
from .packing import Bundled, bundle

__all__ = ["BundleReport", "Bundled", "Imported", "bundle", "import_bundle", "verify_bundle"]
