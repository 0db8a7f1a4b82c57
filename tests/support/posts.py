"""An HTTP server on loopback that takes what is posted to it, in place of somebody else's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

_Read = TypeVar("_Read")


@contextmanager
def heard_posts(read: Callable[[str, bytes], _Read]) -> Iterator[tuple[str, list[_Read]]]:
    """Its address, without a slash at the end, and what has been posted so far.

    Args:
        read: Makes of the path and the body of a request what is kept of it.
    """
    posted: list[_Read] = []

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(read(self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", posted
        finally:
            server.shutdown()
            thread.join()
