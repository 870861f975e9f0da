"""Text as the network reads it: token ids of CLIP's byte-pair vocabulary, at most 32 of them."""

from __future__ import annotations

import gzip
from importlib import resources
from typing import TYPE_CHECKING

from tokenizers import Tokenizer
from transformers import CLIPTokenizer

from sam3_backend.errors import CheckpointError, InvalidPrompt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_TEXT_TOKENS = 32


class TextTokens:
    """Turns texts into token ids. Immutable and thread-safe.

    Args:
        tokenizer: Adds the start and end tokens itself.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer

    @classmethod
    def from_file(cls, path: Path) -> TextTokens:
        """Read a ``tokenizer.json``.

        Raises:
            CheckpointError: It cannot be read.
        """
        try:
            return cls(Tokenizer.from_file(str(path)))
        except Exception as fault:  # the library raises bare Exception
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {fault}") from fault

    @classmethod
    def of_clip(cls) -> TextTokens:
        """CLIP's vocabulary, which every published SAM 3 reads."""
        vocabulary, merges = clip_vocabulary()
        return cls(CLIPTokenizer(vocab=vocabulary, merges=merges).backend_tokenizer)

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, start and end token included.

        Raises:
            InvalidPrompt: The text is longer than the network reads.
        """
        ids: list[int] = self._tokenizer.encode(text).ids
        if len(ids) > MAX_TEXT_TOKENS:
            raise InvalidPrompt(
                f"The text is {len(ids)} tokens long; the model reads at most {MAX_TEXT_TOKENS} "
                "(about 20 words). Use a short noun phrase."
            )
        return ids


def clip_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids of CLIP's word pieces, and the pairs they are merged from, in order."""
    packed = resources.files("sam3_backend.model") / "vocabulary" / "clip_merges.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    merges = [(first, second) for first, second in (line.split(" ") for line in lines)]
    letters = list(_byte_letters())
    pieces = [*letters, *(letter + "</w>" for letter in letters), *(first + second for first, second in merges)]
    ids = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return ids, merges


def _byte_letters() -> Iterator[str]:
    """A printable letter for each byte, in the order of GPT-2's and CLIP's vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(0xAE, 0x100)]
    yield from map(chr, printable)
    yield from (chr(0x100 + index) for index in range(0x100 - len(printable)))
