"""Label Studio's side of the contract: its recorded requests, and a server that plays it where pictures are fetched."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from colour_predictor import ColourPredictor
from PIL import Image
from recorded import masks_in, recorded

from sam3_backend.embeddings.memory import MemoryTier
from sam3_backend.embeddings.store import EmbeddingStore
from sam3_backend.images import KnownPictures, PictureLoader
from sam3_backend.label_studio.backend import LabelStudioBackend
from sam3_backend.label_studio.client import LabelStudioAccess
from sam3_backend.model.scheduler import Scheduler
from sam3_backend.segmenter import Segmenter
from sam3_backend.server.app import create_app
from sam3_backend.server.metrics import Metrics
from sam3_backend.settings import Settings

if TYPE_CHECKING:
    from flask.testing import FlaskClient

TOKEN = "legacy-token"
COLOURS = {"red circle": (220, 30, 30), "blue square": (30, 40, 220), "green triangle": (20, 170, 60)}


@pytest.fixture(scope="session")
def truth() -> dict[str, np.ndarray]:
    """The masks of the three objects in the picture that was on the page while the requests were recorded."""
    return {str(label): mask for label, mask in masks_in(recorded("predict_batch")["answer"]["results"][0])}


@pytest.fixture(scope="session")
def picture(truth: dict[str, np.ndarray]) -> Image.Image:
    """That picture, painted again."""
    pixels = np.full((600, 800, 3), 245, dtype=np.uint8)
    for label, mask in truth.items():
        pixels[mask] = COLOURS[label]
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def jpeg_turned_by_exif(image: Image.Image) -> bytes:
    """The picture with its pixels stored on their side and the note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_90).save(out, "JPEG", quality=95, subsampling=0, exif=exif)
    return out.getvalue()


@dataclass
class PlayedStudio:
    """What plays Label Studio.

    Attributes:
        base: Its address.
        asked: Path and query of each request, in order.
    """

    base: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def studio(picture: Image.Image) -> Iterator[PlayedStudio]:
    """Label Studio as far as pictures go: uploads, local files and presigned storage, all of it behind its token."""
    played = PlayedStudio()
    plain, turned = png(picture), jpeg_turned_by_exif(picture)

    def content_of(path: str, query: dict[str, list[str]]) -> bytes | None:
        if path.startswith("/data/upload/"):
            return turned if path.endswith(".jpg") else plain if path.endswith(".png") else None
        if path == "/data/local-files/":
            return plain if query.get("d") == ["fix/a b.png"] else None
        if path == "/tasks/166/presign/":
            fileuri = base64.urlsafe_b64decode(query["fileuri"][0]).decode()
            return plain if fileuri == "s3://bucket/a/key one.png" else None
        return None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            played.asked.append(self.path)
            address = urlsplit(self.path)
            body = content_of(address.path, parse_qs(address.query))
            is_known = self.headers.get("Authorization") == f"Token {TOKEN}"
            self.send_response(401 if not is_known else 404 if body is None else 200)
            self.end_headers()
            if is_known and body is not None:
                self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        played.base = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield played
        server.shutdown()
        thread.join()


@pytest.fixture
def predictor() -> ColourPredictor:
    return ColourPredictor()


@pytest.fixture
def backend(predictor: ColourPredictor) -> Iterator[LabelStudioBackend]:
    """The real backend over the real use case; of all the parts, the model alone is not SAM 3."""
    settings = Settings()
    loader = KnownPictures(PictureLoader.from_settings(settings))
    segmenter = Segmenter(predictor, Scheduler(), EmbeddingStore(MemoryTier(10**9)), loader)  # type: ignore[arg-type]
    service = LabelStudioBackend(segmenter, LabelStudioAccess.from_settings(settings), predictor)
    yield service
    service.close()


@pytest.fixture
def client(backend: LabelStudioBackend) -> FlaskClient:
    app = create_app(backend, settings=Settings(), facts=lambda: {"model_class": "SAM3"}, counts=Metrics())
    return app.test_client()


Replay = Callable[..., Any]


@pytest.fixture
def replay(client: FlaskClient, studio: PlayedStudio) -> Replay:
    """Sends a recorded request to the server, as Label Studio at the played address, after its introduction."""

    def introduce(project: str) -> None:
        body = recorded("setup_on_add")["body"] | {
            "project": project,
            "hostname": studio.base,
            "access_token": TOKEN,
        }
        assert client.post("/setup", json=body).status_code == 200

    def send(name: str, change: Callable[[dict[str, Any]], None] = lambda _body: None) -> Any:
        request = json.loads(json.dumps(recorded(name)).replace("http://127.0.0.1:8085", studio.base))
        if request["path"] == "/predict":
            introduce(request["body"]["project"])
        body = request["body"]
        if isinstance(body, dict):
            change(body)
        answer = client.open(request["path"], method=request["method"], json=body or None)
        assert answer.status_code == 200, answer.text
        return answer.json

    return send
