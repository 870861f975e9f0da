"""Text as the network reads it: token ids of CLIP's byte-pair vocabulary, at most 32 of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from sam3_backend.errors import CheckpointError, InvalidPrompt

if TYPE_CHECKING:
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
