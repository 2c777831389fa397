"""The columns that a baseline learns from, fitted on training rows."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from oofline.baselines.columns import Categories, Scale, fit_categories, fit_scale
from oofline.baselines.ngrams import Tfidf, fit_tfidf
from oofline.baselines.rows import Recipe, Source
from oofline.config import CFG
from oofline.errors import ConfigError


@dataclass(frozen=True)
class Features:
    """Columns fitted on some training rows.

    Attributes:
        tfidfs: one for each block of n-grams.
        svd: (components, V') float32, None where it is off.
        beside: whether the n-grams stay beside the components.
        scale: of the dense columns.
        categories: 0/1 columns of the tables' values.
        names: (sort, name) of each column, in order; sorts are "word", "char", "svd", "number"
            and "category".
        recipe: how other rows get these columns.
    """

    tfidfs: tuple[Tfidf, ...]
    svd: np.ndarray | None
    beside: bool
    scale: Scale
    categories: Categories
    names: tuple[tuple[str, str], ...]
    recipe: Recipe

    def transform(self, source: Source, rows: np.ndarray) -> sparse.csr_matrix:
        """(r, number of names) float32, sparse by rows.

        Args:
            source: of all rows.
            rows: (r,) int64.
        """
        grams = _grams(self.tfidfs, source, rows)
        blocks = [grams] if self.svd is None or self.beside else []
        if self.svd is not None:
            blocks.append(sparse.csr_matrix(grams @ self.svd.T))
        blocks.append(sparse.csr_matrix(self.scale.transform(source.dense[rows])))
        blocks.append(self.categories.transform(source.tables.categories[rows]))
        return sparse.hstack(blocks, format="csr", dtype=np.float32)


def _grams(tfidfs: tuple[Tfidf, ...], source: Source, rows: np.ndarray) -> sparse.csr_matrix:
    pairs = zip(tfidfs, source.ngrams, strict=True)
    return sparse.hstack([t.transform(block.counts[rows]) for t, block in pairs], format="csr")


def fit_features(cfg: CFG, source: Source, rows: np.ndarray, seed: int) -> Features:
    """Fit TF-IDF, SVD, scales and categories on these rows alone.

    Args:
        cfg: gives tfidf_*, svd_* and, for kind "lightgbm", lgbm_min_rows.
        source: of all rows.
        rows: (r,) int64 training rows.
        seed: of the SVD.

    Raises:
        ConfigError: no n-gram stands in enough of these rows.
    """
    fewest = max(cfg.tfidf_min_rows, cfg.lgbm_min_rows if cfg.kind == "lightgbm" else 1)
    tfidfs = tuple(fit_tfidf(block, rows, fewest, cfg.tfidf_max) for block in source.ngrams)
    names = [title for t in tfidfs for title in t.titles]
    if not names:
        raise ConfigError(
            f"no n-gram stands in {fewest} training rows: lower tfidf_min_rows or lgbm_min_rows"
        )
    svd = _fit_svd(cfg, tfidfs, source, rows, seed)
    if svd is not None:
        names = (names if cfg.svd_beside else []) + [
            ("svd", f"component {i}") for i in range(len(svd))
        ]
    categories = fit_categories(source.tables, rows, fewest)
    names += [("number", name) for name in source.dense_names]
    names += [("category", name) for name in categories.names]
    scale = fit_scale(source.dense[rows])
    return Features(tfidfs, svd, cfg.svd_beside, scale, categories, tuple(names), source.recipe)


def _fit_svd(
    cfg: CFG, tfidfs: tuple[Tfidf, ...], source: Source, rows: np.ndarray, seed: int
) -> np.ndarray | None:
    if not cfg.svd_dims:
        return None
    grams = _grams(tfidfs, source, rows)
    dims = min(cfg.svd_dims, min(grams.shape) - 1)
    if dims < 1:
        return None
    return TruncatedSVD(dims, random_state=seed).fit(grams).components_.astype(np.float32)
