"""Settings of the experiments without a neural network: lightgbm, ridge and logistic."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BaselineSettings:
    """The part of CFG that kinds "lightgbm", "ridge" and "logistic" read."""

    # ---- words and n-grams (kinds lightgbm, ridge and logistic)
    tfidf_words: str = "1-2"
    """Word n-grams, shortest and longest, as in "1" or "1-2"; "" = off."""
    tfidf_chars: str = "1-4"
    """Character n-grams, shortest and longest, as in "3-5"; "" = off."""
    tfidf_min_rows: int = 2
    """N-grams that stand in fewer training rows are left out."""
    tfidf_max: int = 0
    """Keep this many n-grams of each sort, the most frequent in training; 0 = all."""
    tfidf_normalize: str = "nfkc,lower"
    """Steps in order, of nfc, nfkc, lower, digits, repeats, urls, kana, spaces; "" = none."""
    word_splitter: Literal["auto", "mecab", "spaces"] = "auto"
    """What finds the words: MeCab, or spaces and marks; "auto" takes MeCab for Japanese."""
    word_dictionary: Literal["ipadic", "unidic-lite"] = "ipadic"
    """Dictionary of MeCab (a package of that name)."""
    word_form: Literal["base", "surface"] = "base"
    """MeCab's words in their dictionary form, or as they stand in the text."""
    word_pos: str = ""
    """MeCab's parts of speech to keep, as in "名詞,動詞,形容詞"; "" = all."""

    # ---- other columns (kinds lightgbm, ridge and logistic)
    text_stats: bool = True
    """Lengths, shares of scripts, digits, capitals and marks of each text as columns."""
    extra_cols: str = "auto"
    """Columns of train and test used as numbers or categories; "auto" finds them, "" = none."""
    svd_dims: int = 0
    """Components of a truncated SVD of the n-grams, fitted in the fold; 0 = off."""
    svd_beside: bool = True
    """Components stand beside the n-grams; false: they take their place."""

    # ---- LightGBM and linear models
    lgbm_rounds: int = 1000
    """Most boosting rounds; early stopping inside the training rows chooses how many."""
    lgbm_patience: int = 30
    """Rounds without a lower loss on the inner rows before boosting stops; 0 = all rounds."""
    lgbm_lr: float = 0.1
    """Shrinkage of each tree."""
    lgbm_leaves: int = 15
    """Most leaves of a tree."""
    lgbm_min_rows: int = 10
    """Fewest rows of a leaf; n-grams in fewer training rows are left out."""
    lgbm_features: float = 0.2
    """Share of the columns that each tree may use."""
    lgbm_rows: float = 0.8
    """Share of the rows that each tree sees."""
    lgbm_l2: float = 1.0
    """L2 penalty on the leaves' values; 0 = off."""
    linear_penalty: float | None = None
    """Strength of the L2 penalty (ridge: alpha, logistic: 1/C); None = chosen on inner rows."""
    inner_share: float = 0.2
    """Share of a fold's training rows that choose rounds and penalty, before a fit on all."""
