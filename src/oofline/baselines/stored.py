"""The files of a fitted baseline, and the baseline back from them: nothing is pickled."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from lightgbm.basic import LightGBMError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from oofline.baselines.boosting import Boosted, load_boosted
from oofline.baselines.columns import Categories, Scale
from oofline.baselines.features import Features
from oofline.baselines.fitting import Baseline
from oofline.baselines.linear import Linear, load_linear
from oofline.baselines.ngrams import Tfidf
from oofline.baselines.rows import Recipe
from oofline.errors import DataError
from oofline.storage import read_json, replacing, sha256_of, write_json

FEATURES_FILE = "features.json"


def save_baseline(baseline: Baseline, folder: Path) -> dict[str, str]:
    """Write ``features.json`` (names), ``features.safetensors`` (numbers) and the models.

    Models are LightGBM's own text (model0.txt, ...) or weights (model0.safetensors, ...), one for
    each problem.

    Returns:
        SHA-256 of each file by its name.
    """
    features = baseline.features
    tensors = {"mean": features.scale.mean, "spread": features.scale.spread}
    tensors |= {f"idf{i}": tfidf.idf for i, tfidf in enumerate(features.tfidfs)}
    if features.svd is not None:
        tensors["svd"] = features.svd
    with replacing(folder / "features.safetensors") as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary)
    models: list[dict[str, Any]] = []
    for index, model in enumerate(baseline.models):
        boosted = isinstance(model, Boosted)
        name = f"model{index}.{'txt' if boosted else 'safetensors'}"
        model.save(folder / name)
        kind = model.kind if isinstance(model, Linear) else "lightgbm"
        models.append({"file": name, "sort": model.sort, "kind": kind})
    described = {
        "ngrams": [
            {"sort": t.sort, "view": t.view, "names": t.names.tolist()} for t in features.tfidfs
        ],
        "svd_beside": features.beside,
        "categories": [list(value) for value in features.categories.values],
        "columns": [list(name) for name in features.names if name[0] not in ("word", "char")],
        "recipe": dataclasses.asdict(features.recipe),
        "models": models,
        "choices": list(baseline.choices),
    }
    write_json(folder / FEATURES_FILE, described)
    names = [FEATURES_FILE, "features.safetensors", *(model["file"] for model in models)]
    return {name: sha256_of(folder / name) for name in names}


def load_baseline(folder: Path) -> Baseline:
    """Read what `save_baseline` wrote; it transforms rows of `source_of_rows`.

    Args:
        folder: of a finished fold.

    Raises:
        DataError: a file is missing or damaged.
    """
    described = read_json(folder / FEATURES_FILE)
    try:
        features = _features(described, load_file(folder / "features.safetensors"))
        models = tuple(
            load_boosted(folder / m["file"], m["sort"])
            if m["kind"] == "lightgbm"
            else load_linear(folder / m["file"], m["kind"], m["sort"])
            for m in described["models"]
        )
    except (OSError, SafetensorError, LightGBMError, LookupError) as error:
        raise DataError(
            f"the baseline in {folder} cannot be read ({type(error).__name__}: {error}): restore "
            "its files, or delete the folder and train that fold again"
        ) from None
    return Baseline(features, models, tuple(described["choices"]))


def _features(described: dict[str, Any], tensors: dict[str, np.ndarray]) -> Features:
    tfidfs = [
        Tfidf(b["sort"], np.array(b["names"], dtype=object), np.arange(len(b["names"])),
              tensors[f"idf{index}"], b.get("view", ""))
        for index, b in enumerate(described["ngrams"])
    ]  # fmt: skip
    others = [(sort, name) for sort, name in described["columns"]]
    grams = [title for t in tfidfs for title in t.titles]
    beside = bool(described["svd_beside"])
    values = [(int(column), str(value)) for column, value in described["categories"]]
    categories = Categories(values, [name for sort, name in others if sort == "category"])
    recipe = described["recipe"]
    return Features(
        tuple(tfidfs), tensors.get("svd"), beside, Scale(tensors["mean"], tensors["spread"]),
        categories, (*(grams if beside else []), *others),
        Recipe(recipe["dictionary"], tuple(recipe["numbers"]), tuple(recipe["categories"])),
    )  # fmt: skip
