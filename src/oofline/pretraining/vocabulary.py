"""A WordPiece vocabulary made from the competition's own texts."""

from collections import Counter
from pathlib import Path

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from oofline.errors import ConfigError
from oofline.progress import bar
from oofline.storage import write_json, write_text

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""With the ids 0 to 4."""
_ALPHABET = 6000
"""Most different characters (Japanese needs thousands)."""
_DICTIONARY = "ipadic"


def make_vocabulary(texts: list[str], size: int, japanese: bool) -> Tokenizer:
    """A WordPiece tokenizer (Schuster, Nakajima 2012) trained on texts.

    Args:
        texts: those trained on; held-out ones should not be among them.
        size: most entries.
        japanese: words are found by MeCab with ipadic, as in the Japanese BERT models; otherwise
            by spaces and marks, in lower case.

    Returns:
        The tokenizer; its files are written by `save_vocabulary`.

    Raises:
        ConfigError: Japanese words need a package that is not installed.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
    splitter = pre_tokenizers.BertPreTokenizer()
    if japanese:
        words = _japanese_words(texts)
    else:
        words = Counter(
            word
            for text in texts
            for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
        )
    tokenizer = Tokenizer(models.WordPiece(_pieces(words, size), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )  # fmt: skip
    return tokenizer


def _pieces(words: Counter[str], size: int) -> dict[str, int]:
    """Piece -> id of the WordPieces for these words, the same in every run.

    The trainer numbers inner characters ("##a") as it meets them, in an order that changes from
    run to run and decides between pairs of equal frequency: so they are given to it, sorted.
    """
    letters: Counter[str] = Counter()
    for word, count in words.items():
        letters.update(dict.fromkeys(word, count))
    ranked = sorted(letters, key=lambda letter: (-letters[letter], letter))
    alphabet = set(ranked[: min(_ALPHABET, size // 3)])
    kept = {word: count for word, count in words.items() if alphabet.issuperset(word)}
    inner = sorted({f"##{letter}" for word in kept for letter in word[1:]})
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=[*SPECIAL, *inner], continuing_subword_prefix="##",
        show_progress=False,
    )  # fmt: skip
    stream = (word for word, count in kept.items() for _ in range(count))
    tokenizer.train_from_iterator(stream, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary


def save_vocabulary(tokenizer: Tokenizer, folder: Path, japanese: bool) -> None:
    """Write a tokenizer's files, and last a config.json that names its size.

    Japanese ones are laid out as bert-base-japanese: vocab.txt, and a tokenizer_config.json for
    BertJapaneseTokenizer with MeCab and ipadic.
    """
    vocabulary = tokenizer.get_vocab()
    settings: dict[str, object] = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    if japanese:
        write_text(
            folder / "vocab.txt",
            "".join(f"{token}\n" for _, token in sorted((i, t) for t, i in vocabulary.items())),
        )
        settings |= {
            "tokenizer_class": "BertJapaneseTokenizer", "do_lower_case": False,
            "word_tokenizer_type": "mecab", "subword_tokenizer_type": "wordpiece",
            "mecab_kwargs": {"mecab_dic": _DICTIONARY},
        }  # fmt: skip
    else:
        write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    write_json(folder / "tokenizer_config.json", settings)
    write_json(folder / "config.json", {"model_type": "bert", "vocab_size": len(vocabulary)})


def _japanese_words(texts: list[str]) -> Counter[str]:
    """How often each word occurs, as BertJapaneseTokenizer finds them."""
    from transformers.models.bert_japanese.tokenization_bert_japanese import MecabTokenizer

    try:
        mecab = MecabTokenizer(mecab_dic=_DICTIONARY)
    except ImportError as error:
        raise ConfigError(
            f"a Japanese vocabulary needs the packages fugashi and {_DICTIONARY}: pip install "
            f"fugashi {_DICTIONARY}"
        ) from error
    words: Counter[str] = Counter()
    with bar("words", len(texts)) as progress:
        for text in texts:
            words.update(mecab.tokenize(text))
            progress.advance()
    return words
