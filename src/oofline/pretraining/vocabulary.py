"""A WordPiece vocabulary made from the competition's own texts."""

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
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    if japanese:
        texts = _split_japanese(texts)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), limit_alphabet=min(_ALPHABET, size // 2),
        continuing_subword_prefix="##", show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", SPECIAL.index("[CLS]")), ("[SEP]", SPECIAL.index("[SEP]"))],
    )  # fmt: skip
    return tokenizer


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


def _split_japanese(texts: list[str]) -> list[str]:
    """Texts with a space between words, as BertJapaneseTokenizer splits them."""
    from transformers.models.bert_japanese.tokenization_bert_japanese import MecabTokenizer

    try:
        mecab = MecabTokenizer(mecab_dic=_DICTIONARY)
    except ImportError as error:
        raise ConfigError(
            f"a Japanese vocabulary needs the packages fugashi and {_DICTIONARY}: pip install "
            f"fugashi {_DICTIONARY}"
        ) from error
    with bar("words", len(texts)) as progress:
        split = []
        for text in texts:
            split.append(" ".join(mecab.tokenize(text)))
            progress.advance()
    return split
