"""Which scripts and which language texts are written in, seen from their characters."""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

SAMPLE = 500
"""Texts that are looked at, evenly spaced."""
JAPANESE = "Japanese"
_SHOWN = 0.005
_DRIFT = 0.1
_WORDS = {
    "English": "the and of to is in that it for with was you are this have not",
    "German": "der die und das ist nicht ein ich mit den von auf eine für dem sich",
    "French": "le la les et des est un une pas que pour dans qui sur avec vous",
    "Spanish": "el la los y de que es en un una por para con no se las",
    "Portuguese": "o os e de que é em um uma para com não se do da mais",
    "Italian": "il la di che è e un una per non con sono gli del della più",
    "Dutch": "de het een en van is dat niet ik je op te met voor zijn er",
}
"""Frequent short words, told apart by how many of them a text holds."""
_LANGUAGE_OF_SCRIPT = {
    "Hangul": "Korean", "Thai": "Thai", "Greek": "Greek", "Hebrew": "Hebrew",
}  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+")


@functools.cache
def script_of(character: str) -> str:
    """Script of a letter ("Latin", "Han", "Hiragana", "Cyrillic", ...), "" for what is no letter.

    The long vowel mark counts as Katakana.
    """
    if character in "ーｰ":
        return "Katakana"
    if not character.isalpha():
        return ""
    first = unicodedata.name(character, "?").split(" ")[0].split("-")[0]
    if first in ("HALFWIDTH", "FULLWIDTH"):
        return script_of(unicodedata.normalize("NFKC", character)[0])
    return "Han" if first in ("CJK", "IDEOGRAPHIC") else first.capitalize()


def script_shares(texts: Sequence[str]) -> dict[str, float]:
    """Share of each script among all letters, the largest first; empty where no text has one."""
    counts: Counter[str] = Counter()
    for character, number in Counter("".join(texts)).items():
        counts[script_of(character)] += number
    del counts[""]
    total = sum(counts.values())
    return {script: number / total for script, number in counts.most_common()}


def language_of(text: str) -> str:
    """Language of one text, "" where it shows none.

    Kana say Japanese, Han alone Chinese; Latin letters are told apart by frequent words, where
    there are some; every other script stands for itself.
    """
    shares = script_shares([text])
    kana = shares.get("Hiragana", 0.0) + shares.get("Katakana", 0.0)
    if kana + shares.get("Han", 0.0) >= 0.3:
        return JAPANESE if kana else "Chinese"
    script = next(iter(shares), "")
    if script != "Latin":
        return _LANGUAGE_OF_SCRIPT.get(script, script and f"{script} script")
    words = Counter(_WORD.findall(text.lower()))
    hits = {name: sum(words[w] for w in common.split()) for name, common in _WORDS.items()}
    best = max(hits, key=lambda name: hits[name])
    return best if hits[best] else ""


def languages(texts: Sequence[str]) -> dict[str, float]:
    """Share of each language among the texts that show one, the largest first."""
    found = Counter(filter(None, map(language_of, sample(texts))))
    total = sum(found.values())
    return {name: number / total for name, number in found.most_common()}


def main_language(texts: Sequence[str]) -> str:
    """The most frequent language, "" where none is shown (a text in Han alone may be Japanese)."""
    found = languages(texts)
    if JAPANESE in found and found[JAPANESE] + found.get("Chinese", 0.0) > 0.5:
        return JAPANESE
    return next(iter(found), "")


def sample(texts: Sequence[str], size: int = SAMPLE) -> list[str]:
    """At most ``size`` texts, evenly spaced."""
    if len(texts) <= size:
        return list(texts)
    return [texts[i] for i in np.linspace(0, len(texts) - 1, size).astype(int)]


def language_notes(train: Sequence[str], test: Sequence[str]) -> list[str]:
    """Lines for the user: language and scripts of the texts, and where train and test differ."""
    name = main_language(train)
    scripts = script_shares(sample(train)), script_shares(sample(test))
    shown = ", ".join(f"{s} {share:.0%}" for s, share in scripts[0].items() if share >= _SHOWN)
    notes = [f"language: {name or 'not recognised'}; letters: {shown or 'none'}"]
    apart = [
        f"{script} {scripts[0].get(script, 0):.0%} and {scripts[1].get(script, 0):.0%}"
        for script in dict.fromkeys([*scripts[0], *scripts[1]])
        if abs(scripts[0].get(script, 0.0) - scripts[1].get(script, 0.0)) > _DRIFT
    ]
    if apart:
        notes.append(f"train and test are written differently: {', '.join(apart)} of their letters")
    return notes
