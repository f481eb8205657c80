"""The outside world of 05_query_and_action.py: a small web server of the lab's microscopes."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.process import BaseProcess
from threading import Thread


class Lab:
    """What is outside: how the microscopes are calibrated, and what was ordered."""

    def __init__(self) -> None:
        self.calibrations = {"leica": 0.25}  # micrometers for a pixel
        self.orders: list[str] = []
        self.victims: dict[str, BaseProcess] = {}  # killed as soon as that part was ordered

    @contextmanager
    def server(self) -> Iterator[str]:
        """A web server on this machine for a with-block: its address."""
        lab = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(json.dumps(lab.calibrations[self.path[1:]]))

            def do_POST(self) -> None:
                part = self.rfile.read(int(self.headers["Content-Length"])).decode()
                lab.orders.append(part)
                if part in lab.victims:
                    lab.victims[part].kill()
                else:
                    self.answer("thank you")

            def answer(self, text: str) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            Thread(target=server.serve_forever).start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
