"""What a server may do to us: answers that are no objects (listings, errors) are read up to a size, not
for ever, and nothing is sent where it redirects us.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import Unsupported
from .answers import Refusal

_NEEDED = "2.12.2"  # the first with AioConfig(http_session_cls=...)
_LARGEST = 16_000_000  # bytes; a page of a listing has about one
_PIECE = 1 << 16


def bounded_session() -> dict[str, Any]:
    """The configuration of aiobotocore for that. Unsupported where it is too old."""
    import aiobotocore
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession

    if "http_session_cls" not in inspect.signature(AioConfig.__init__).parameters:
        raise Unsupported(
            f"zones at s3:// need aiobotocore {_NEEDED} or later, and this is"
            f" {aiobotocore.__version__}: pip install 'aiobotocore>={_NEEDED}'"
        )

    class BoundedSession(AIOHTTPSession):  # type: ignore[misc,unused-ignore]
        async def _get_session(self, proxy_url: str | None) -> Any:
            return _Straight(await super()._get_session(proxy_url))

        async def send(self, request: Any) -> Any:
            """Send a request; its answer is read here unless it is an object, which others read."""
            is_object = request.stream_output
            request.stream_output = True  # so that nothing is read yet
            answer = await super().send(request)
            if not is_object or answer.status_code >= 300:
                answer._content = await _content(answer.raw)  # noqa: SLF001 - what it reads itself
            return answer

    return {"http_session_cls": BoundedSession}


class _Straight:
    """A session of aiohttp that does not follow redirections, which it does by itself otherwise."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, method: str, **given: Any) -> Any:
        return self._session.request(method, **{**given, "allow_redirects": False})


async def _content(raw: Any) -> bytes:
    pieces, size = [], 0
    try:
        while piece := await raw.content.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > _LARGEST:
                raise Refusal(0, "TooLong", f"its answer has more than {_LARGEST} bytes")
    except BaseException:  # also when it is given up
        raw.close()
        raise
    return b"".join(pieces)
