"""A proxy before an S3 server that makes trouble: some answers never come, or come wrong.

With `share=0` it only listens: `heard` has what was asked.
"""

import contextlib
import http.client
import random
import select
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

FAULTS = ("reset", "stall", "500", "503", "truncated", "lost")

_ERROR = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>by the proxy</Message></Error>"


class Heard(NamedTuple):
    """A request that was answered: its body had `sent` bytes, the answer's `got`."""

    method: str
    path: str
    sent: int
    status: int
    got: int


class FaultProxy:
    """Passes requests on to `upstream`; a `share` of them meets one of the faults.

    `endpoint` is its URL. `met` counts the faults by name. `heard` has what was passed on and answered;
    `listener` is told of each before the answer goes back.
    """

    def __init__(self, upstream, share, seed=0, faults=FAULTS):
        self.upstream = urlsplit(upstream).netloc
        self.share = share
        self.faults = faults
        self.met = dict.fromkeys(faults, 0)
        self.heard = []
        self.listener = None
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(
            ("127.0.0.1", 0), type("H", (_Handler,), {"proxy": self})
        )
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self):
        """What happens to the next request; None for most."""
        with self._lock:
            if self._random.random() >= self.share:
                return None
            name = self._random.choice(self.faults)
            self.met[name] += 1
            return name

    def note(self, heard):
        with self._lock:
            self.heard.append(heard)
            if self.listener is not None:
                self.listener(heard)

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError, OSError):
            super().handle()

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault()
        if fault == "reset":
            return self._reset()
        if fault == "stall":  # until the other side gives up
            select.select([self.connection], [], [], 60)
            return self._reset()
        if fault in ("500", "503"):
            code = b"InternalError" if fault == "500" else b"SlowDown"
            return self._answer(int(fault), [], _ERROR % code)
        status, headers, data = self._ask(body)
        self.proxy.note(Heard(self.command, self.path, len(body), status, len(data)))
        if fault == "lost":
            return self._reset()
        return self._answer(status, headers, data, cut=fault == "truncated")

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _pass_on

    def _ask(self, body):
        connection = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in ("connection", "date")]
        return answer.status, kept, data

    def _answer(self, status, headers, data, *, cut=False):
        self.send_response(status)
        names = {k.lower() for k, _ in headers}
        for k, v in headers:
            self.send_header(k, v)
        if "content-length" not in names and "transfer-encoding" not in names:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if "transfer-encoding" in names:
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
