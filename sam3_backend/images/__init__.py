"""Pictures: from an address, or from a file's bytes, to upright RGB pixels and the hash they are cached under.

``picture`` decodes, ``location`` says where, ``addresses`` and ``network`` guard every connection, ``loader``
downloads, ``known`` remembers what need not be downloaded again. Nothing here knows a prompt, a mask or Label Studio's
JSON.
"""

from sam3_backend.images.known import KnownPictures, Sighting
from sam3_backend.images.loader import PictureLoader
from sam3_backend.images.location import Authorization, PictureLocation
from sam3_backend.images.picture import Picture, PictureFile, decode_picture, read_picture_file

__all__ = [
    "Authorization",
    "KnownPictures",
    "Picture",
    "PictureFile",
    "PictureLoader",
    "PictureLocation",
    "Sighting",
    "decode_picture",
    "read_picture_file",
]
