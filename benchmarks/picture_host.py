"""Label Studio's side of the benchmarks: uploads served over loopback, and the requests that it would send."""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2

from examples.studio.pictures import Drawing, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LABEL_CONFIG = (Path(__file__).parents[1] / "examples" / "recommended" / "label_config.xml").read_text()
LABEL = "red circle"


def drawing(seed: int, width_px: int = 1920, height_px: int = 1080) -> Drawing:
    """Three large shapes; the seed moves and resizes them, so that no two pictures are the same."""
    unit = height_px / 1080
    shift = (seed % 40) * 3 * unit
    return Drawing(
        (
            Shape("circle", "red", (430 * unit + shift, 420 * unit), (200 + seed % 23) * unit),
            Shape("square", "blue", (1050 * unit + shift, 430 * unit), 240 * unit, seed % 60),
            Shape("triangle", "green", (1500 * unit + shift, 700 * unit), 210 * unit, seed % 120),
        ),
        width_px=width_px,
        height_px=height_px,
    )


def jpeg(picture: Drawing) -> bytes:
    """The picture as a camera would store it."""
    is_written, data = cv2.imencode(".jpg", picture.rgb()[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not is_written:
        raise RuntimeError("OpenCV cannot write JPEG")
    return bytes(data)


@contextmanager
def uploads(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serve files as Label Studio's uploads, ``/data/upload/1/NAME``; yields the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = files.get(self.path.rsplit("/", 1)[-1])
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Not wanted."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def request_body(names: Sequence[str], context: list[dict[str, Any]] | None, config: str = LABEL_CONFIG) -> bytes:
    """A body of ``/predict``: interactive with prompt regions, a batch with None."""
    tasks = [{"id": index, "data": {"image": f"/data/upload/1/{name}"}} for index, name in enumerate(names)]
    params = {"context": None if context is None else {"result": context}}
    return json.dumps({"tasks": tasks, "project": "1.1", "label_config": config, "params": params}).encode()


def keypoint(x_pct: float, y_pct: float) -> dict[str, Any]:
    """A positive click, as the page sends it: with an id that no other prompt has."""
    return {
        "id": secrets.token_urlsafe(8),
        "type": "keypointlabels",
        "from_name": "kp",
        "to_name": "image",
        "is_positive": True,
        "value": {"x": x_pct, "y": y_pct, "width": 0.2, "keypointlabels": [LABEL]},
    }


class Annotator:
    """A page's connection to the server, kept open. Pages have machines of their own: it computes as little as it can.

    Args:
        url: The server's base URL.
    """

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._connection = socket.create_connection((host, int(port)), timeout=600)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"POST /predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"

    def predict(self, body: bytes) -> tuple[bytes, float]:
        """The answer's body, and the seconds it took.

        Raises:
            RuntimeError: The server did not answer 200, or not at all.
        """
        began = time.perf_counter()
        self._connection.sendall(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head, data = received[:end].lower(), received[end + 4 :]
        length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        while len(data) < length:
            data += self._more()
        elapsed_s = time.perf_counter() - began
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{head.decode()}: {data[:500]!r}")
        return data, elapsed_s

    def _more(self) -> bytes:
        received = self._connection.recv(1 << 16)
        if not received:
            raise RuntimeError("The server closed the connection.")
        return received
