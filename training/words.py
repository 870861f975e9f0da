"""Phrases for concepts, words that mean nothing here, and the tokenizer over both.

Knows language only: which shapes a phrase refers to is `concepts`' business.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from training.vocabulary import ANY_SHAPE, COLOURS, PLURALS, SHAPES, SYNONYMS, VISUAL

if TYPE_CHECKING:
    import random

    from transformers import CLIPTokenizer

MAX_TOKENS = 32
"""Longest text the model takes."""

FILLERS: tuple[str, ...] = (
    *("a", "an", "the", "all", "every", "each", "of", "and", "with", "in", "on", "photo", "image", "picture", "one"),
    *("two", "three", "big", "small", "large", "left", "right", "top", VISUAL, "colored", "coloured"),
)

FOREIGN_WORDS: tuple[str, ...] = tuple((Path(__file__).parent / "foreign_words.txt").read_text().split())
"""Words with no meaning in this world, some of them close to ours in spelling."""

_SYLLABLES = (
    *(consonant + vowel for consonant in "bcdfghjklmnprstvwyz" for vowel in "aeiou"),
    *("th", "ck", "ng", "nt", "rd", "st", "ll", "ss", "nd", "mp", "tra", "cra", "sta"),
)


def known_words() -> list[str]:
    """Every word with a meaning of its own: each becomes one token."""
    synonyms = [word for words in SYNONYMS.values() for word in words]
    return [*SHAPES, *PLURALS.values(), *COLOURS, *ANY_SHAPE, *FILLERS, *synonyms]


def build_tokenizer(directory: Path, merges: int = 900) -> CLIPTokenizer:
    """Learns a byte-pair tokenizer from the word lists and saves it; the same lists give the same tokenizer.

    Args:
        directory: where the tokenizer files go.
        merges: how many pairs may become a token of their own.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    counts = Counter(dict.fromkeys(known_words(), 50))
    counts.update(word + end for word in FOREIGN_WORDS for end in ("", "", "s"))
    learned = _learn_merges(counts, merges)
    letters = sorted(ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*tokens, *("".join(pair) for pair in learned)]))}
    CLIPTokenizer(vocab=vocabulary, merges=learned, model_max_length=MAX_TOKENS).save_pretrained(directory)
    return CLIPTokenizer.from_pretrained(directory)


def _learn_merges(counts: Counter[str], limit: int) -> list[tuple[str, str]]:
    """The most frequent neighbours, again and again (Sennrich et al., 2016); ties go by the alphabet."""
    spelled = {word: [*word[:-1], f"{word[-1]}</w>"] for word in counts}
    learned: list[tuple[str, str]] = []
    while len(learned) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in spelled.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        learned.append(best)
        for parts in spelled.values():
            _join(parts, best)
    return learned


def _join(parts: list[str], pair: tuple[str, str]) -> None:
    """Makes one part of every such pair, in place."""
    i = 0
    while i + 1 < len(parts):
        if (parts[i], parts[i + 1]) == pair:
            parts[i : i + 2] = ["".join(pair)]
        i += 1


def phrase(rng: random.Random, colour: str | None, shape: str | None) -> str:
    """One of many wordings of a concept; None leaves colour or shape open."""
    if shape is None and colour is not None and rng.random() < 0.4:
        return colour
    if shape is None:
        noun = rng.choice(ANY_SHAPE[:4] if rng.random() < 0.8 else ANY_SHAPE)
    else:
        chance = rng.random()
        others = SYNONYMS.get(shape, (shape,))
        noun = shape if chance < 0.55 else PLURALS[shape] if chance < 0.88 else rng.choice(others)
    words = noun if colour is None else f"{colour} {noun}"
    chance = rng.random()
    if chance < 0.05:
        return f"the {words}"
    if chance < 0.12:
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
    return f"all {words}" if chance < 0.16 else words


def foreign_phrase(rng: random.Random) -> str:
    """A phrase that refers to nothing in any picture: real words, made-up words, known colours of unknown things."""
    word = rng.choice(FOREIGN_WORDS) if rng.random() < 0.5 else made_up_word(rng)
    chance = rng.random()
    if chance < 0.15:
        word += "s"
    chance = rng.random()
    if chance < 0.25:
        return f"{rng.choice(COLOURS)} {word}"
    if chance < 0.32:
        return f"a {word}"
    if chance < 0.42:
        return f"{word} {made_up_word(rng)}"
    return word


def made_up_word(rng: random.Random) -> str:
    """Pronounceable or random letters, never a known word."""
    while True:
        if rng.random() < 0.7:
            word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 4)))
        else:
            word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 8)))
        if word not in known_words() and len(word) > 1:
            return word
