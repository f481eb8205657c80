"""Who this user is to others: one Ed25519 key in the user's own folder (docs/formats/signature.md).

It is made when something is signed for the first time. Workers of a cluster get a key of their own,
which lives for a few days, and a certificate in which the user's key says that it signs in its place:
the user's key itself goes nowhere.
"""

from __future__ import annotations

import json
import os
import time
from functools import lru_cache
from typing import Any, NamedTuple

from .errors import BadKey, KacheryError, NotFound, StoreUnavailable
from .signing import Signer, read_private, signer_from, user_folder, verify, write_private

DELEGATED_FOR = 7 * 86_400  # seconds

_VARIABLE = "KACHERY_IDENTITY"
_FORMAT = "kachery identity 1"
_FILE = "identity.json"


class Certificate(NamedTuple):
    """Says that a key signs in the place of another one, for what was made before a moment.

    `public`: the delegated key, 32 bytes. `until`: seconds since 1970. `signature`: by the other key.
    """

    public: bytes
    until: int
    signature: bytes

    def is_by(self, identity: bytes) -> bool:
        """Whether that public key signed it."""
        return verify(identity, self.signature, _delegation(self.public, self.until))


class Identity:
    """A key that signs: the user's own, or one that signs in its place.

    `public` is the user's, 32 bytes, in both cases; `certificate` is None for the user's own.
    """

    def __init__(
        self, signer: Signer, public: bytes | None = None, certificate: Certificate | None = None
    ) -> None:
        self._signer = signer
        self.public = public or signer.public
        self.certificate = certificate

    def sign(self, data: bytes) -> bytes:
        """A signature, 64 bytes; always the same for the same data."""
        return self._signer.sign(data)

    def __repr__(self) -> str:
        return f"Identity({self.public.hex()})"


class Delegated(NamedTuple):
    """An identity on its way to a worker: the seed of a key of its own, whom it stands for, and why."""

    seed: bytes
    public: bytes
    certificate: Certificate

    def __repr__(self) -> str:  # the seed is a secret
        return f"Delegated({self.public.hex()})"

    def identity(self) -> Identity:
        """The identity that signs with it."""
        return Identity(Signer(self.seed), self.public, self.certificate)


def identity() -> Identity | None:
    """The user's identity, if there is one: KACHERY_IDENTITY, else the file in the user's folder.

    Raises BadKey when it is there and cannot be used.
    """
    given = os.environ.get(_VARIABLE)
    try:
        return _identity_given(given) if given else _read_file(identity_path())
    except NotFound:
        if given:
            raise BadKey(
                f"{_VARIABLE} names {given}, and there is no such file; it is the path of a file that"
                " `kachery id export` has written, or its text"
            ) from None
        return None


def own_identity() -> Identity:
    """The user's identity, which is made if there is none. BadKey, StoreUnavailable."""
    found = identity()
    if found is not None:
        return found
    write_private(identity_path(), _content(os.urandom(32)))  # who is first is the first
    return _read_file(identity_path())


def is_given() -> bool:
    """Whether the environment says which identity is the user's."""
    return bool(os.environ.get(_VARIABLE))


def identity_path() -> str:
    """The file of the user's key."""
    return os.path.join(user_folder(), _FILE)


def export_identity() -> str:
    """The user's private key, a secret, as text that `import_identity` takes.

    BadKey, StoreUnavailable.
    """
    own_identity()
    given = os.environ.get(_VARIABLE)
    if given and _is_text(given):
        return json.dumps(_parsed(given, _VARIABLE))
    return json.dumps(read_private(_path_of(given) if given else identity_path()))


def import_identity(text: str, *, replace: bool = False) -> Identity:
    """Make a key, as exported, the user's own. BadKey; KacheryError when there is another one."""
    content = _parsed(text, "what is imported")
    new = _identity_of(content, "what is imported")
    if not write_private(identity_path(), content, replace=replace):
        found = _read_file(identity_path())
        if found.public != new.public:
            raise KacheryError(
                f"you have the key {found.public.hex()} already, in {identity_path()}; with --replace"
                " the imported one takes its place, and the other is lost unless you export it first"
            )
    return new


_last_delegated: Delegated | None = None


def delegated() -> Delegated:
    """A key that signs in the place of the user's for some days. BadKey, StoreUnavailable.

    It is the same one for a while, so that what is sent to workers stays the same.
    """
    global _last_delegated
    own, last = own_identity(), _last_delegated
    if own.certificate is not None:
        raise BadKey("a key that signs in the place of another one cannot be delegated further")
    now = int(time.time())
    if (
        last is None
        or last.public != own.public
        or last.certificate.until < now + DELEGATED_FOR // 2
    ):
        seed, until = os.urandom(32), now + DELEGATED_FOR
        public = Signer(seed).public
        certificate = Certificate(public, until, own.sign(_delegation(public, until)))
        last = _last_delegated = Delegated(seed, own.public, certificate)
    return last


def _delegation(public: bytes, until: int) -> bytes:
    return f"kachery delegation 1\n{public.hex()}\n{until}\n".encode()


def _content(seed: bytes) -> dict[str, Any]:
    public = Signer(seed).public.hex()
    return {
        "format": _FORMAT,
        "public": public,
        "private": seed.hex(),
        "created": int(time.time()),
    }


def _identity_given(given: str) -> Identity:
    return _identity_in(given) if _is_text(given) else _read_file(_path_of(given))


@lru_cache(maxsize=4)
def _identity_in(text: str) -> Identity:
    return _identity_of(_parsed(text, _VARIABLE), _VARIABLE)


def _is_text(given: str) -> bool:
    return given.lstrip().startswith("{")


def _path_of(given: str) -> str:
    return os.path.abspath(os.path.expanduser(given))


def _parsed(text: str, what: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise BadKey(f"{what} is no identity: `kachery id export` writes one")
    return content


_known: dict[str, tuple[tuple[int, ...], Identity]] = {}  # by path, with the state of the file


def _read_file(path: str) -> Identity:
    """The identity in a file, which is read again when it has changed. NotFound, BadKey."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise NotFound(f"there is no {path}") from None
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error}", error.errno, path) from error
    state = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_mode)
    known = _known.get(path)
    if known is None or known[0] != state:
        known = _known[path] = state, _identity_of(read_private(path), path)
    return known[1]


def _identity_of(content: dict[str, Any], path: str) -> Identity:
    if content.get("format") != _FORMAT:
        raise BadKey(f"{path} is no identity of this kachery: its format is not {_FORMAT!r}")
    signer = signer_from(content.get("private"), path)
    if signer.public.hex() != content.get("public"):
        raise BadKey(f"{path} is damaged: its two keys do not belong together. Restore it")
    return Identity(signer)
