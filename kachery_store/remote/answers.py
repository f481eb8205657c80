"""What an error of S3, or on the way to it, means: asked again, or not."""

from __future__ import annotations

from typing import Any

from ..errors import KacheryError

_MOST_WORDS = 300  # characters of what a server says, which goes to a person's terminal


class Refusal(Exception):
    """The server's answer is no. `status`: HTTP's number; `code`: the name that S3 gives it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.status = status
        self.code = code


class Temporary(Exception):
    """It may well succeed when asked again. `tries`: how often to ask at most."""

    tries = 8


class Unreachable(Temporary):
    """Nobody listens there, now."""

    tries = 3


# Names that stand for trouble on the way though their status is not 5xx.
_ASK_AGAIN = frozenset(
    (
        *("BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout"),
        *("ConditionalRequestConflict", "ServiceUnavailable", "SlowDown", "Throttling"),
        *("XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"),
    )
)

# Of botocore, aiohttp and asyncio, by name: they are not imported for this.
_NOBODY_THERE = frozenset(("ConnectTimeoutError", "ConnectionRefusedError", "gaierror"))
_ON_THE_WAY = frozenset(
    ("HTTPClientError", "ClientPayloadError", "ClientConnectionError", "ResponseParserError")
    + ("ConnectionError", "EndpointConnectionError")
)


def classified(error: BaseException) -> Exception:
    """A Refusal or a Temporary for what s3fs raised; kachery's own errors are given back."""
    if isinstance(error, Temporary | Refusal):
        return error
    response: dict[str, Any] = _response(error)
    if response:
        return _of_answer(response)
    told = _clean(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    names = {base.__name__ for base in type(error).__mro__}
    if _nobody_is_there(error):
        return Unreachable(told)
    if isinstance(error, OSError | EOFError) or names & _ON_THE_WAY:
        return Temporary(told)
    if isinstance(error, KacheryError):
        return error
    # Of botocore; or an answer so strange that somebody stumbled over it.
    return Refusal(0, type(error).__name__, _clean(str(error)))


def advice_of(refusal: Refusal, bucket: str) -> str:
    """What a person can do about a refusal."""
    if refusal.code == "NoSuchBucket":
        return f"Create the bucket {bucket}, or mend the zone's url."
    if refusal.status == 403 or refusal.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        return (
            "Check the credentials (the zone's `profile`, or AWS_PROFILE and the like) and rights."
        )
    if "Credentials" in refusal.code or "Profile" in refusal.code:
        return "Name a `profile` in the zone's table, set AWS_ACCESS_KEY_ID, or say `anon = true`."
    return "See `kachery zone check`."


def _response(error: BaseException | None) -> dict[str, Any]:
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return {}


def _of_answer(response: dict[str, Any]) -> Exception:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = _clean(str(response.get("Error", {}).get("Code", status)))
    message = _clean(str(response.get("Error", {}).get("Message", "")))
    if status >= 500 or status == 429 or code in _ASK_AGAIN:
        return Temporary(f"{code}: {message}")
    return Refusal(status, code, message)


def _clean(words: str) -> str:
    """Words of a server, in which a terminal finds no commands."""
    kept = "".join(c if c.isprintable() else " " for c in words[:_MOST_WORDS])
    return kept + "..." if len(words) > _MOST_WORDS else kept


def _nobody_is_there(error: BaseException | None) -> bool:
    """Whether an address has no listener, or no host; a connection that broke is another matter."""
    while error is not None:
        if type(error).__name__ in _NOBODY_THERE:
            return True
        error = error.__cause__ or error.__context__
    return False
