"""Stores of the examples: in examples/output, apart from yours."""

import os
import shutil
from pathlib import Path


def own_store(name: str, *, empty: bool = True) -> Path:
    """Let this process, and those that it starts, use a store and keys in this folder of output.

    Your settings do not count then. If it is not to be `empty`, what earlier runs left there is kept.
    Your own programs need nothing like this; `kachery.using(dir="...")` chooses another store.
    """
    folder = Path(__file__).resolve().parent / "output" / name
    if empty:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for variable in list(os.environ):
        if variable.startswith("KACHERY_"):
            del os.environ[variable]
    os.environ["KACHERY_DIR"] = str(folder / "store")
    os.environ["KACHERY_USER_DIR"] = str(folder / "keys")
    return folder
