"""URIs: how stored files are named outside the store.

`sha1://<hex>?label=<name>` is the published form, with `&manifest=<hex>` and `&location=<path>` where
they are known. The older forms `sha1://<hex>/<name>` and `kachery:<zone>:sha1:<hex>[:<name>]` are
read as well.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from .digest import HEX_LENGTH, Digest, make_digest
from .errors import BadURI

MAX_LABEL = 1_000  # characters
MAX_LOCATION = 4_096

_FORMS = "sha1://HASH, sha256://HASH, blake3://HASH or kachery:ZONE:sha1:HASH"
_MAX_FIELDS = 20
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class FileURI(NamedTuple):
    """A parsed URI of a stored file.

    `manifest` names the list of its parts; `location` is a path where the file may be as well, as
    whoever made the URI says; `zone` is the zone that the older form names.
    """

    digest: Digest
    label: str | None = None
    manifest: Digest | None = None
    location: str | None = None
    zone: str | None = None


def format_uri(
    digest: Digest,
    label: str | None = None,
    *,
    uri_type: int = 1,
    zone: str = "",
    manifest: Digest | None = None,
) -> str:
    """The published text for a stored file; `uri_type=2` gives the `kachery:ZONE:` form.

    Raises BadURI for a label that no URI should carry.
    """
    check_uri_type(uri_type, with_manifest=manifest is not None)
    if label is not None:
        check_label(label)
    if uri_type == 2:
        text = f"kachery:{zone}:{digest.algorithm}:{digest.hex}"
        return text + (f":{quote(label)}" if label is not None else "")
    fields = [f"label={quote(label)}"] if label is not None else []
    fields += [f"manifest={manifest.hex}"] if manifest is not None else []
    return f"{digest}?{'&'.join(fields)}" if fields else str(digest)


def check_uri_type(uri_type: int, *, with_manifest: bool = False) -> None:
    """Refuse a form of URI that does not exist with ValueError."""
    if uri_type not in (1, 2):
        raise ValueError(f"uri_type is 1 or 2, not {uri_type!r}")
    if uri_type == 2 and with_manifest:
        raise ValueError("the form kachery:ZONE:... cannot name a manifest; use uri_type=1")


def check_label(label: str) -> None:
    """Refuse a label that would do harm as a file name or on a terminal with BadURI."""
    if not isinstance(label, str):
        raise BadURI(f"a label is text, not {type(label).__name__}")
    _check_name("label", label, MAX_LABEL)


def is_web(uri: object) -> bool:
    """Whether a URI is one of those that are loaded from the web."""
    return isinstance(uri, str) and uri.startswith(("http://", "https://", "gh://"))


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
    fields = _fields(query)
    manifest = fields.get("manifest")
    return FileURI(
        make_digest(algorithm, hex),
        _checked_label(fields.get("label", unquote(path_label) or None)),
        None if manifest is None else make_digest(algorithm, manifest),
        _location(query),
    )


def _parse_zone_form(uri: str) -> FileURI:
    fields = uri.split(":", 4)
    if len(fields) < 4:
        raise BadURI(f"{uri[:200]!r} is cut short; the form is kachery:ZONE:sha1:HASH[:LABEL]")
    label = unquote(fields[4]) if len(fields) == 5 and fields[4] else None
    return FileURI(make_digest(fields[2], fields[3]), _checked_label(label), zone=fields[1])


def _fields(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise BadURI(f"a URI has at most {_MAX_FIELDS} fields after the question mark") from None
    return dict(reversed(pairs))  # of equal names the first counts


def _location(query: str) -> str | None:
    # kachery 2 writes the path as it is, so that a plus sign is a plus sign
    given = [text[9:] for text in query.split("&") if text.startswith("location=")]
    if not given:
        return None
    location = unquote(given[0])
    _check_name("location", location, MAX_LOCATION)
    return location if location.startswith("/") else None


def _checked_label(label: str | None) -> str | None:
    if label is not None:
        check_label(label)
    return label


def _check_name(what: str, text: str, longest: int) -> None:
    if len(text) > longest:
        raise BadURI(f"that {what} has {len(text)} characters; at most {longest} are allowed")
    if _CONTROL.search(text):
        raise BadURI(f"the {what} {text[:80]!r} has control characters; leave them out")
    if ".." in text.split("/"):
        raise BadURI(f"the {what} {text[:80]!r} leads out of its folder with `..`; leave that out")
