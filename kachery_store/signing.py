"""Ed25519 keys, and the user's own folder, in which the private ones are.

That folder is no part of a store: nothing that lists, sends or serves a store meets a private key.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import BadKey, NotFound, unavailable

_KEY = re.compile("[0-9a-f]{64}")
_PRIVATE = 0o600
_FOLDER = 0o700
_MOST_FILE = 1_000_000  # bytes
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Signer:
    """A private key. `public` is the other half, 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, data: bytes) -> bytes:
        """The signature of data, 64 bytes; always the same for the same data."""
        return self._key.sign(data)

    def __repr__(self) -> str:
        return f"Signer({self.public.hex()})"


def verify(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether a signature is that of this key, for this data."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def user_folder() -> str:
    """Where the user's keys are, and what the user has seen: KACHERY_USER_DIR, or ~/.config/kachery."""
    given = os.environ.get("KACHERY_USER_DIR")
    if given:
        return os.path.abspath(os.path.expanduser(given))
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(config, "kachery")


def make_private_folder(path: str) -> None:
    """Create a folder that only the user enters."""
    try:
        os.makedirs(path, mode=_FOLDER, exist_ok=True)
    except OSError as error:
        raise unavailable(path, error) from error


def write_private(path: str, content: dict[str, Any], *, replace: bool = False) -> bool:
    """Write a JSON file that only the user can read, durably; False when the name is taken."""
    folder = os.path.dirname(path)
    make_private_folder(folder)
    temporary = f"{path}.{os.getpid()}.{os.urandom(8).hex()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
        try:
            with open(fd, "w", encoding="utf-8") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(fd)
            if replace:
                os.replace(temporary, path)
            else:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        _sync(folder)
    except OSError as error:
        raise unavailable(folder, error) from error
    return True


def read_private(path: str) -> dict[str, Any]:
    """A JSON file that only the user can read. NotFound; BadKey when others can read it, or no JSON."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except OSError as error:
        raise unavailable(os.path.dirname(path), error) from error
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & _OTHERS:
            raise BadKey(
                f"{path} can be read or changed by others, so what is in it is no secret: make a new"
                f" key, or, if you are sure that nobody did, chmod 600 {path}"
            )
        data = file.read(_MOST_FILE)
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BadKey(f"{path} is damaged: it is no JSON object. Restore it from a backup")
    return content


def signer_from(seed: Any, path: str) -> Signer:
    """The key whose seed is given as hex, as read from `path`. BadKey."""
    if not isinstance(seed, str) or not _KEY.fullmatch(seed):
        raise BadKey(f"{path} is damaged: its key is not 64 digits of 0-9 and a-f")
    return Signer(bytes.fromhex(seed))


@contextmanager
def locked(path: str, how: int) -> Iterator[None]:
    """Hold the lock on a file of the user's folder, LOCK_SH or LOCK_EX of fcntl. OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE)
    try:
        fcntl.flock(fd, how)
        yield
    finally:
        os.close(fd)


def _sync(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
