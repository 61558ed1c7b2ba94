"""The demo's five families of small problems, and the four styles an answer can be written in.

A problem is a request about one made-up word ("Reverse malori.") with one right content ("irolam"). What differs
between answers is the style: bare, a sentence, tagged, labelled. The demo model was pretrained on all four, the demo
benchmark accepts only the tagged one, and the demo data teaches it: a fine-tuning task small enough for a CPU.
Words are split by a hash, so that a word in a benchmark task never occurs in pretraining or training data.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

FamilyName = Literal["say", "reverse", "sort", "upper", "tool"]
StyleName = Literal["bare", "sentence", "tag", "label"]

FAMILIES: tuple[FamilyName, ...] = get_args(FamilyName)
STYLES: dict[StyleName, str] = {"bare": "{}", "sentence": "It is {}.", "tag": "<a>{}</a>", "label": "Answer: {}"}

TOOLS: dict[str, str] = {
    "Mail {}.": "MAIL_SEND({})",
    "Call {}.": "PHONE_CALL({})",
    "Open {}.": "FILE_OPEN({})",
    "Find {} online.": "WEB_SEARCH({})",
    "Play {}.": "MUSIC_PLAY({})",
    "Meet {}.": "CALENDAR_ADD({})",
}

_CONSONANTS = "bcdfghjklmnprstvwxz"
_VOWELS = "aeiou"
_WORD_LENGTHS = range(3, 11)
_HELD_OUT_SHARE = 8
"""One word in this many belongs to the benchmark."""


@dataclass(frozen=True)
class Problem:
    """One request and the content of its right answer, without a style."""

    family: FamilyName
    word: str
    prompt: str
    answer: str

    @property
    def length(self) -> str:
        """The bucket of the word's length: short (3-5 letters), medium (6-8) or long (9-10)."""
        return ("short", "medium", "long")[(len(self.word) - _WORD_LENGTHS.start) // 3]

    def answer_in(self, style: StyleName) -> str:
        """The right answer, written in a style."""
        return STYLES[style].format(self.answer)


def is_held_out(word: str) -> bool:
    """Whether a word belongs to the benchmark (about one in eight) and so to no training data."""
    return zlib.crc32(word.encode()) % _HELD_OUT_SHARE == 0


def draw_word(rng: random.Random, *, held_out: bool) -> str:
    """A pronounceable made-up word of 3 to 10 letters from the wanted side of the split."""
    while True:
        letters = (_CONSONANTS, _VOWELS) if rng.random() < 0.8 else (_VOWELS, _CONSONANTS)
        word = "".join(rng.choice(letters[place % 2]) for place in range(rng.choice(_WORD_LENGTHS)))
        if is_held_out(word) == held_out:
            return word


def draw_problem(rng: random.Random, family: FamilyName, *, held_out: bool) -> Problem:
    """One problem of a family.

    Args:
        rng: the only source of randomness.
        family: which of the five families.
        held_out: True for the benchmark's words, False for those of pretraining and training data.
    """
    word = draw_word(rng, held_out=held_out)
    if family == "tool":
        request, call = rng.choice(list(TOOLS.items()))
        return Problem(family, word, request.format(word), call.format(word))
    request, solve = _REQUESTS[family]
    return Problem(family, word, request.format(word), solve(word))


def draw_problems(seed: str, families: Sequence[FamilyName], *, held_out: bool) -> Iterator[Problem]:
    """Problems without end, the families taking turns; the same seed gives the same problems."""
    rng = random.Random(seed)
    while True:
        for family in families:
            yield draw_problem(rng, family, held_out=held_out)


_REQUESTS: dict[FamilyName, tuple[str, Callable[[str], str]]] = {
    "say": ("Say {}.", lambda word: word),
    "reverse": ("Reverse {}.", lambda word: word[::-1]),
    "sort": ("Sort the letters of {}.", lambda word: "".join(sorted(word))),
    "upper": ("Write {} in capitals.", str.upper),
}
