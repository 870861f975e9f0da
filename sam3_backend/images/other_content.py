"""What came instead of a picture, named so that a person sees what went wrong. Decodes nothing."""

from __future__ import annotations

# What people send instead of a picture: (where, bytes there, what to call it).
_OTHER_CONTENT = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (4, b"ftyphei", "a HEIC picture, which browsers do not show either"),
    (4, b"ftypmif1", "a HEIF picture, which browsers do not show either"),
    (4, b"ftyp", "a video"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (128, b"DICM", "a DICOM file"),
    (0, b"8BPS", "a Photoshop file"),
)


def name_content(data: bytes) -> str:
    """What bytes that are no picture seem to be, in a few words."""
    if not data:
        return "an empty file"
    for offset, magic, name in _OTHER_CONTENT:
        if data[offset : offset + len(magic)] == magic:
            return name
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        return "an SVG drawing, which has no pixels"
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a login or error page?)"
    if start.startswith(b"<"):
        return "an XML document"
    if start.startswith((b"{", b"[")):
        return "a JSON document"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in data[:256]):
        return "text"
    return f"{len(data):,} bytes of an unknown format"
