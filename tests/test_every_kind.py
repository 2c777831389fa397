"""Every kind of task from folds to a submission, by the verbs that a user types."""

import pandas as pd
import pytest

from oofline import cli
from oofline.storage import read_json

CASES = {
    "binary": ({}, "f1", {"confusion", "calibration"}),
    "multiclass": ({}, "accuracy", {"confusion", "calibration"}),
    "regression": ({}, "rmse", {"predicted_vs_true"}),
    "multi-target": ({"target_weights": "tone=2"}, "mcrmse", {"predicted_vs_true"}),
    "multilabel": ({}, "roc_auc", {"calibration", "target_scores"}),
    "multilabel-labels": (
        {"metric": "f1_macro", "class_weights": "balanced"}, "f1_macro", {"calibration"},
    ),
    "ordinal": ({}, "qwk", {"confusion", "predicted_vs_true"}),
    "ordinal-classes": ({"ordinal": "classes"}, "qwk", {"confusion"}),
    "ordinal-corn": ({"ordinal": "ordinal"}, "qwk", {"confusion"}),
    "pair": ({"pair_swap": "train+test"}, "f1", {"confusion"}),
    "qa": ({"doc_stride": 4}, "answer_f1", {"score_by_answer"}),
    "windows": ({"windows": 3, "max_len": 8, "window_stride": 2}, "f1", {"confusion"}),
}  # fmt: skip


BASELINES = [
    *((kind, case) for kind in ("lightgbm", "ridge") for case in CASES if case in {
        "multiclass", "multi-target", "multilabel-labels", "ordinal", "ordinal-classes", "pair",
    }),
    ("logistic", "multilabel"), ("logistic", "ordinal-classes"), ("logistic", "pair"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "case"), BASELINES)
def test_a_baseline_of_every_kind_beside_a_stored_prediction(
    write_competition, tmp_path, kind, case
):
    settings, metric, _ = CASES[case]
    settings = {k: v for k, v in settings.items() if k != "target_weights"}
    toy = case if case == "multi-target" else case.split("-")[0]
    paths = write_competition(toy, n=60, n_test=9, n_folds=2, **settings)

    def oofline(verb, *argv):
        assert cli.run([verb, "--comp", "toy", *argv], tmp_path) == 0

    for exp in ("one", "two"):
        oofline("train", "--exp", exp, "--kind", kind, "--lgbm-min-rows", "3",
                "--tfidf-words", "1" if exp == "one" else "1-2")  # fmt: skip
    scores = read_json(paths.experiment("one") / "scores.json")
    assert scores["metric"] == metric
    assert scores["score"] is not None
    assert (paths.experiment("one") / "pictures" / "importance.png").exists()
    oofline("ensemble", "--exps", "one,two", "--name", "both")
    oofline("submission", "--exp", "both")
    assert (
        pd.read_csv(paths.submission)["id"].tolist()
        == pd.read_csv(paths.input / "sample_submission.csv")["id"].tolist()
    )
    oofline("predict", "--exp", "one", "--check")
    differences = read_json(paths.output / "predict.json")["max_difference"]
    assert set(differences.values()) == {0.0}


@pytest.mark.parametrize("case", CASES)
def test_from_folds_to_submission(write_competition, tmp_path, case):
    settings, metric, pictures = CASES[case]
    kind = "binary" if case == "windows" else case if case == "multi-target" else case.split("-")[0]
    paths = write_competition(kind, n=60, n_test=9, n_folds=2, epochs=1, **settings)

    def oofline(verb, *argv):
        assert cli.run([verb, "--comp", "toy", *argv], tmp_path) == 0

    oofline("train", "--seed", "1,2")
    scores = read_json(paths.experiment("base") / "scores.json")
    assert scores["metric"] == metric
    assert scores["score"] is not None
    drawn = {path.stem for path in (paths.experiment("base") / "pictures").glob("*.png")}
    assert pictures | {"learning_curves", "score_by_length", "worst_rows"} <= drawn
    oofline("ensemble", "--exps", "base@1,base@2", "--name", "both")
    oofline("compare")
    sample = pd.read_csv(paths.input / "sample_submission.csv")
    for name in ("base", "both"):
        oofline("submission", "--exp", name)
        found = pd.read_csv(paths.submission)
        assert list(found.columns) == list(sample.columns)
        assert found["id"].tolist() == sample["id"].tolist()
    if kind not in ("multilabel", "multi-target"):
        return
    names = list(sample.columns[1:])
    assert list(scores["target_scores"]) == names
    columns = {f"score/{name}" for name in names}
    history = pd.read_csv(paths.fold("base", 1, 0) / "history.csv")
    assert columns <= set(history)
    assert columns <= set(pd.read_csv(paths.output / "compare.csv"))
    losses = history[[f"valid_loss/{name}" for name in names]]
    assert losses.mean(axis=1).to_numpy() == pytest.approx(history["valid_loss"].to_numpy())
    assert (losses.nunique(axis=1) > 1).all()
