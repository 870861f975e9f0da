"""Pictures that an address holds itself: ``data:`` URIs."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from sam3_backend.errors import ImageTooLarge, ImageUndecodable, InvalidRequest

if TYPE_CHECKING:
    from sam3_backend.images.location import PictureLocation

_DATA_URI = re.compile(r"data:(?P<type>[^,]*),(?P<body>.*)", re.DOTALL | re.IGNORECASE)


def read_data_uri(location: PictureLocation, max_bytes: int) -> bytes:
    """The bytes that a ``data:`` URI holds.

    Raises:
        ImageTooLarge: They are more than ``max_bytes``.
        ImageUndecodable: The base64 is damaged.
        InvalidRequest: It is no ``data:`` URI.
    """
    too_large = ImageTooLarge(f"{location.name} has more than {max_bytes:,} bytes (IMAGE_MAX_BYTES).")
    if len(location.url) > 3 * max_bytes:  # the most that percent-encoding can make of so many bytes
        raise too_large
    parts = _DATA_URI.match(location.url)
    if parts is None:
        raise InvalidRequest("The data: URI has no comma, so it holds no picture.")
    data = unquote_to_bytes(parts["body"])
    if parts["type"].lower().endswith(";base64"):
        compact = b"".join(data.split()).replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
        try:
            data = base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
        except binascii.Error as fault:
            raise ImageUndecodable(f"The data: URI is not proper base64: {fault}.") from fault
    if len(data) > max_bytes:
        raise too_large
    return data
