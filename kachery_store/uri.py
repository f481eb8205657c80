"""URIs: how stored files are named outside the store.

`sha1://<hex>?label=<name>` is the published form. The older forms `sha1://<hex>/<name>` and
`kachery:<zone>:sha1:<hex>[:<name>]` are read as well.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote

from .digest import HEX_LENGTH, Digest, make_digest
from .errors import BadURI

_FORMS = "sha1://HASH, sha256://HASH, blake3://HASH or kachery:ZONE:sha1:HASH"


class FileURI(NamedTuple):
    """A parsed URI of a stored file."""

    digest: Digest
    label: str | None = None


def format_uri(
    digest: Digest, label: str | None = None, *, uri_type: int = 1, zone: str = ""
) -> str:
    """The published text for a stored file; `uri_type=2` gives the `kachery:ZONE:` form."""
    if uri_type == 1:
        return str(digest) + (f"?label={quote(label)}" if label is not None else "")
    if uri_type == 2:
        text = f"kachery:{zone}:{digest.algorithm}:{digest.hex}"
        return text + (f":{quote(label)}" if label is not None else "")
    raise ValueError(f"uri_type is 1 or 2, not {uri_type!r}")


def parse_uri(uri: str) -> FileURI:
    """Read any form of URI of a stored file; BadURI says what is wrong with it."""
    if not isinstance(uri, str):
        raise BadURI(f"a URI is text like {_FORMS}, not {type(uri).__name__}")
    if uri.startswith("kachery:"):
        return _parse_zone_form(uri)
    algorithm, separator, rest = uri.partition("://")
    if not separator or algorithm not in HEX_LENGTH:
        raise BadURI(f"{uri[:200]!r} is not a URI of a stored file; those look like {_FORMS}")
    name, _, query = rest.partition("?")
    hex, _, path_label = name.partition("/")
    labels = parse_qs(query, keep_blank_values=True).get("label", [])
    label = labels[0] if labels else unquote(path_label) or None
    return FileURI(make_digest(algorithm, hex), label)


def _parse_zone_form(uri: str) -> FileURI:
    fields = uri.split(":", 4)
    if len(fields) < 4:
        raise BadURI(f"{uri[:200]!r} is cut short; the form is kachery:ZONE:sha1:HASH[:LABEL]")
    label = unquote(fields[4]) if len(fields) == 5 and fields[4] else None
    return FileURI(make_digest(fields[2], fields[3]), label)
