"""Japanese BERT folders: the right dictionary, and no folder that loads without words.

Three ways lead to a model that trains without an error and knows nothing: a folder whose config
does not say ``BertJapaneseTokenizer`` is read character by character; one that does not say
"mecab" is split at spaces, of which Japanese has none; and one that names no dictionary was made
with ipadic, while transformers 5 takes unidic-lite.
"""

import importlib.util
from pathlib import Path
from typing import Any

from oofline.errors import ConfigError
from oofline.storage import read_json

CLASS = "BertJapaneseTokenizer"
FORMER_DICTIONARY = "ipadic"
"""What folders without a dictionary's name were made with."""
PROBES = 200
_MODULES = {"ipadic": "ipadic", "unidic_lite": "unidic_lite", "unidic": "unidic"}
_PACKAGES = {"ipadic": "ipadic", "unidic_lite": "unidic-lite", "unidic": "unidic"}


def tokenizer_options(name: str, folder: Path) -> dict[str, Any]:
    """What `AutoTokenizer.from_pretrained` has to be told beside the folder.

    Args:
        name: as `CFG.model`, for messages.
        folder: of the model.

    Returns:
        ``mecab_kwargs`` with ipadic where a Japanese BERT names no dictionary, else nothing.

    Raises:
        ConfigError: MeCab's package or its dictionary's is not installed (named), or the folder
            does not say how words are found.
    """
    settings: dict[str, Any] = {}
    for file in ("config.json", "tokenizer_config.json"):
        if (folder / file).is_file():
            settings |= read_json(folder / file)
    if str(settings.get("tokenizer_class")).removesuffix("Fast") != CLASS:
        return {}
    words = settings.get("word_tokenizer_type", "basic")
    if words == "basic" and settings.get("subword_tokenizer_type", "wordpiece") == "wordpiece":
        raise ConfigError(
            f"model = {name!r}: {folder / 'tokenizer_config.json'} names no word tokenizer, so "
            'that whole sentences would be one word: add "word_tokenizer_type": "mecab" and '
            '"mecab_kwargs": {"mecab_dic": "ipadic" or "unidic_lite"}, as its authors made it'
        )
    if words != "mecab":
        return {}
    options: dict[str, Any] = dict(settings.get("mecab_kwargs") or {})
    if "mecab_dic" not in options:
        options["mecab_dic"] = FORMER_DICTIONARY
    dictionary: str | None = options["mecab_dic"]
    needed = {"fugashi": "fugashi"}
    if dictionary is not None:
        needed[_MODULES.get(dictionary, dictionary)] = _PACKAGES.get(dictionary, dictionary)
    for module, package in needed.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"model = {name!r} splits Japanese words and needs the package {package}: "
                f'pip install "oofline[ja]" (or {package} alone)'
            )
    return {"mecab_kwargs": options}


def refuse_single_characters(name: str, folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that takes the words of its own vocabulary apart.

    Args:
        name: as `CFG.model`, for messages.
        folder: of the model.
        tokenizer: as loaded.

    Raises:
        ConfigError: most words of two or more Chinese characters in its vocabulary come out as
            single characters.
    """
    known = tokenizer.get_vocab()
    words = sorted(
        (w for w in known if len(w) > 1 and all("\u4e00" <= c <= "\u9fff" for c in w)),
        key=known.get,
    )[:PROBES]
    if len(words) < 5:
        return
    apart = [all(len(p.removeprefix("##")) == 1 for p in tokenizer.tokenize(w)) for w in words]
    if sum(apart) > len(words) / 2:
        example = words[apart.index(True)]
        raise ConfigError(
            f"model = {name!r}: its vocabulary has the word {example}, but its tokenizer "
            f"({type(tokenizer).__name__}) reads it as single characters: {folder} does not say "
            f'which tokenizer it needs; add "tokenizer_class": "{CLASS}" to its '
            "tokenizer_config.json, or copy that file from where the model comes from"
        )
