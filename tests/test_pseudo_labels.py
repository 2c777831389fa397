"""Pseudo-labels: a fold's labels come from that fold's teachers alone, and training proves it."""

import random
import shutil

import numpy as np
import pandas as pd
import pytest

from oofline import cli
from oofline.crossval import train_units
from oofline.data.competition import read_competition
from oofline.data.folds import ensure_folds
from oofline.data.reading import read_table
from oofline.errors import ConfigError, DataError
from oofline.scoring.metrics import score
from oofline.storage import PSEUDO_LABELS, Paths, read_json, sha256_of, write_json
from oofline.training import student as student_module
from oofline.training.pseudo import PROVENANCE, read_pseudo


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("train", ...) -> (exit code, stdout, stderr), run below tmp_path."""
    monkeypatch.setenv("COLUMNS", "220")

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder that keeps what `taught` made: it is made once."""
    return tmp_path_factory.mktemp("taught") / "root"


@pytest.fixture
def taught(write_competition, oofline, kept, tmp_path):
    """A binary competition whose base experiment is trained, and pseudo-labels "soft" by it."""
    if kept.exists():
        shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
        return Paths("toy", tmp_path)
    paths = write_competition(n=45, n_test=30, epochs=1)
    assert oofline("train", "--comp", "toy")[0] == 0
    code, out, _ = oofline("pseudo", "--comp", "toy", "--teacher", "base", "--name", "soft")
    assert code == 0
    assert "30 rows for each of 3 folds" in out.splitlines()[-1]
    assert "--pseudo soft" in out.splitlines()[-1]
    shutil.copytree(tmp_path, kept)
    return paths


def labels_of(paths, name="soft"):
    return pd.read_parquet(paths.pseudo(name) / PSEUDO_LABELS)


def test_each_folds_labels_are_what_its_own_teacher_predicts(taught):
    labels = labels_of(taught)
    assert len(labels) == 90
    for fold in range(3):
        stored = pd.read_parquet(taught.fold("base", 42, fold) / "test.parquet")
        mine = labels[labels["fold"] == fold]
        assert mine["id"].tolist() == stored["id"].tolist()
        assert mine["pred_target"].tolist() == stored["pred_target"].tolist()
    folds = [labels.loc[labels["fold"] == fold, "pred_target"].to_numpy() for fold in range(3)]
    assert not np.allclose(folds[0], folds[1])
    made = read_json(taught.pseudo("soft") / PROVENANCE)
    for fold in "012":
        (entry,) = made["teachers"][fold]
        path = taught.fold("base", 42, int(fold)) / "scores.json"
        assert entry == {"exp": "base", "seed": 42, "fold": int(fold), "sha256": sha256_of(path)}


def test_a_student_is_an_ordinary_experiment(taught, oofline):
    code, out, err = oofline("train", "--comp", "toy", "--exp", "student", "--pseudo", "soft",
                             "--pseudo-weight", "0.5")  # fmt: skip
    assert code == 0, err
    assert "pseudo-labels soft: 30 of 30 rows of test.csv in each fold, by base@42" in out
    assert "fold 0: 30 labelled and 30 pseudo-labelled rows" in out
    oof = pd.read_parquet(taught.experiment("student") / "oof.parquet")
    train = read_table(taught.input, "train")
    assert sorted(oof["id"]) == sorted(train["id"])  # real rows alone are scored
    inputs = read_json(taught.experiment("student") / "inputs.json")
    assert inputs["pseudo-labels"] == sha256_of(taught.pseudo("soft") / PSEUDO_LABELS)
    steps = [
        read_json(taught.fold(exp, 42, 0) / "scores.json")["steps"] for exp in ("base", "student")
    ]
    assert steps == [4, 8]  # 30 and 60 rows in batches of 8
    code, out, _ = oofline("compare", "--comp", "toy")
    assert code == 0
    assert "student" in out
    assert oofline("submission", "--comp", "toy", "--exp", "student")[0] == 0


@pytest.mark.parametrize("kind", [
    "multiclass", "regression", "multilabel", "multi-target", "pair", "ordinal",
])  # fmt: skip
def test_every_kind_of_task_has_soft_labels(write_competition, load_settings, oofline, kind):
    paths = write_competition(kind, n=45, n_test=15, epochs=1)
    assert oofline("train", "--comp", "toy")[0] == 0
    assert oofline("pseudo", "--comp", "toy", "--teacher", "base")[0] == 0
    forms = [("--ordinal", form) for form in ("regression", "classes", "ordinal")]
    for number, form in enumerate(forms if kind == "ordinal" else [()]):
        code, _, err = oofline(
            "train",
            "--comp",
            "toy",
            "--exp",
            f"s{number}",
            "--pseudo",
            "base",
            "--fold",
            "0",
            *form,
        )
        assert code == 0, err
        scores = read_json(paths.fold(f"s{number}", 42, 0) / "scores.json")
        assert scores["steps"] > read_json(paths.fold("base", 42, 0) / "scores.json")["steps"]


def test_the_mean_of_several_teachers_and_seeds_stays_within_the_fold(taught, oofline):
    argv = ("train", "--comp", "toy", "--exp", "other", "--seed", "1,2", "--lr", "0.002")
    assert oofline(*argv)[0] == 0
    code, _, _ = oofline("pseudo", "--comp", "toy", "--teacher", "base,other")
    assert code == 0
    found, made = labels_of(taught, "base+other"), [("base", 42), ("other", 1), ("other", 2)]
    for fold in range(3):
        stored = [
            pd.read_parquet(taught.fold(exp, seed, fold) / "test.parquet")["pred_target"]
            for exp, seed in made
        ]
        mine = found.loc[found["fold"] == fold, "pred_target"].to_numpy()
        assert mine == pytest.approx(np.mean(stored, axis=0))


def test_a_further_file_is_predicted_by_the_stored_models(taught, oofline):
    test = read_table(taught.input, "test").drop(columns="id")
    test.to_csv(taught.input / "extra.csv", index=False)
    code, _, err = oofline("pseudo", "--comp", "toy", "--teacher", "base", "--name", "more",
                             "--file", "extra.csv")  # fmt: skip
    assert code == 0, err
    more, soft = labels_of(taught, "more"), labels_of(taught)
    assert more["pred_target"].to_numpy() == pytest.approx(soft["pred_target"].to_numpy(), abs=1e-6)
    assert more["id"].iloc[0] == "extra.csv-0"
    argv = ("train", "--comp", "toy", "--exp", "s", "--fold", "1", "--pseudo", "more")
    assert oofline(*argv)[0] == 0
    test.iloc[:-1].to_csv(taught.input / "extra.csv", index=False)
    code, _, err = oofline("train", "--comp", "toy", "--exp", "s", "--fold", "2", "--from", "s")
    assert code == 2
    assert "other unlabelled rows" in err


def test_a_baseline_teaches_on_the_test_rows_alone(taught, oofline):
    argv = ("train", "--comp", "toy", "--exp", "lgbm", "--kind", "lightgbm", "--lgbm-min-rows", "3")
    assert oofline(*argv)[0] == 0
    teach = ("pseudo", "--comp", "toy", "--teacher", "base,lgbm", "--name", "both")
    read_table(taught.input, "test").to_csv(taught.input / "extra.csv", index=False)
    code, _, err = oofline(*teach, "--file", "extra.csv")
    assert code == 2
    assert "teacher lgbm is a baseline (lightgbm)" in err
    assert err.rstrip().endswith("leave out --file")
    assert err.count("\n") == 1
    assert not taught.pseudo("both").exists()
    assert oofline(*teach)[0] == 0
    labels = labels_of(taught, "both")
    for fold in range(3):
        stored = [
            pd.read_parquet(taught.fold(exp, 42, fold) / "test.parquet")["pred_target"]
            for exp in ("base", "lgbm")
        ]
        mine = labels.loc[labels["fold"] == fold, "pred_target"].to_numpy()
        assert mine == pytest.approx(np.mean(stored, axis=0))
    code, out, err = oofline("train", "--comp", "toy", "--exp", "student", "--pseudo", "both")
    assert code == 0, err
    assert "by base@42, lgbm@42 of the same fold" in out


def test_only_confident_rows_are_taken(taught, load_settings):
    competition = read_competition(load_settings(taught), taught)
    pred = labels_of(taught)["pred_target"].to_numpy().reshape(3, 30)
    limit = float(np.quantile(np.maximum(pred, 1 - pred), 0.5))
    cfg = load_settings(taught, pseudo="soft", pseudo_threshold=limit)
    found = read_pseudo(cfg, taught, competition)
    for fold in range(3):
        sure = np.flatnonzero(np.maximum(pred[fold], 1 - pred[fold]) >= limit)
        assert found.taken[fold].tolist() == sure.tolist()
    with pytest.raises(ConfigError, match="no row of fold 0 is that confident"):
        read_pseudo(load_settings(taught, pseudo="soft", pseudo_threshold=1.0), taught, competition)


def test_a_threshold_needs_probabilities(write_competition, load_settings, oofline):
    write_competition("regression", n=45, epochs=1)
    assert oofline("train", "--comp", "toy")[0] == 0
    assert oofline("pseudo", "--comp", "toy", "--teacher", "base")[0] == 0
    code, _, err = oofline("train", "--comp", "toy", "--exp", "s", "--pseudo", "base",
                           "--pseudo-threshold", "0.9")  # fmt: skip
    assert (code, "needs probabilities" in err) == (2, True)


def tamper(paths, change):
    path = paths.pseudo("soft") / PROVENANCE
    made = read_json(path)
    change(made)
    write_json(path, made)


@pytest.mark.parametrize(("change", "says"), [
    (lambda m: m["teachers"]["1"].append(m["teachers"]["0"][0]),
     "the labels of fold 1 are by base seed 42 fold 0, which has seen rows that fold 1 validates"),
    (lambda m: m["teachers"].pop("2"), "has labels for folds 0, 1, but there are 3 folds"),
    (lambda m: m["teachers"]["0"].clear(), "fold 0 has no teacher"),
    (lambda m: m["teachers"]["0"][0].update(sha256="0"), "base seed 42 fold 0 was trained again"),
    (lambda m: m.update({"folds.csv": "0"}), "made with other folds.csv"),
    (lambda m: m.update({"labels": "0"}), "made with other labels"),
    (lambda m: m.update({"train file": "0"}), "made with other train file"),
])  # fmt: skip
def test_labels_that_do_not_fit_the_folds_are_refused(taught, oofline, change, says):
    tamper(taught, change)
    code, _, err = oofline("train", "--comp", "toy", "--exp", "student", "--pseudo", "soft")
    assert code == 2
    assert says in err
    assert not taught.experiment("student").exists()


@pytest.mark.parametrize(("argv", "says"), [
    ((), "which teacher? add --teacher EXP"),
    (("--teacher", "nobody"), "there is no experiment nobody"),
    (("--teacher", "blend"), "blend is an ensemble, whose test predictions mix all folds"),
    (("--teacher", "half"), "not complete: folds 1, 2 of seed 42 are missing"),
    (("--teacher", "base", "--file", "none.csv"), "none.csv does not exist"),
    (("--teacher", "base", "--file", "none.txt"), "ends with .csv"),
    (("--teacher", "base", "--name", "a/b"), "plain folder name"),
])  # fmt: skip
def test_what_makes_no_labels_says_why(taught, oofline, argv, says):
    write_json(taught.ensemble("blend") / "scores.json", {"members": ["base@42"]})
    oofline("train", "--comp", "toy", "--exp", "half", "--fold", "0", "--lr", "0.002")
    code, _, err = oofline("pseudo", "--comp", "toy", *argv)
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_unknown_labels_are_named(taught, oofline):
    code, _, err = oofline("train", "--comp", "toy", "--exp", "s", "--pseudo", "sotf")
    assert (code, "(there: soft)" in err) == (2, True)


def test_folds_made_anew_refuse_the_old_labels(taught, oofline, load_settings):
    for path in taught.output.glob("folds*"):
        path.unlink()
    cfg = load_settings(taught, fold_seed=7)
    ensure_folds(cfg, taught, read_competition(cfg, taught))
    argv = ("train", "--comp", "toy", "--exp", "s", "--pseudo", "soft", "--fold-seed", "7")
    code, _, err = oofline(*argv)
    assert (code, "made with other folds.csv" in err) == (2, True)
    code, _, err = oofline("pseudo", "--comp", "toy", "--teacher", "base", "--fold-seed", "7")
    assert (code, "was started with another folds.csv" in err) == (2, True)


def test_an_averaged_teacher_leaks_and_ours_does_not(
    write_competition, load_settings, oofline, monkeypatch
):
    """Labels by chance, and unlabelled copies of the training texts.

    Nothing can be learnt, so an honest score is no better than chance. An average over all folds'
    teachers knows the labels by heart, and a student reads those of its own validation rows.
    """
    settings = {"epochs": 30, "lr": 3e-3, "dropout": 0.0, "schedule": "constant",
                "evals_per_epoch": 0.03, "metric": "roc_auc"}  # fmt: skip
    paths = write_competition(n=36, n_test=36, **settings)
    rng = random.Random(1)
    train = read_table(paths.input, "train")
    train["text"] = [" ".join(rng.sample("defghijklmnopq", 3)) for _ in range(36)]
    train["target"] = rng.sample(["0", "1"] * 18, 36)
    train.to_csv(paths.input / "train.csv", index=False)
    test = read_table(paths.input, "test").assign(text=train["text"])
    test.to_csv(paths.input / "test.csv", index=False)

    cfg = load_settings(paths)
    train_units(cfg, paths, [0, 1, 2], [42])
    assert oofline("pseudo", "--comp", "toy", "--teacher", "base", "--name", "soft")[0] == 0
    competition = read_competition(cfg, paths)
    fold = ensure_folds(cfg, paths, competition)[0].fold
    ours = labels_of(paths)["pred_target"].to_numpy().reshape(3, 36)
    average = np.broadcast_to(ours.mean(axis=0), ours.shape)

    def knowledge(pred, rows=slice(None)):
        return score(competition.task, competition.y[rows], pred[rows, None])

    def told(labels):
        """What each fold's student is told of the rows that it will be scored on."""
        return labels[fold, np.arange(36)]

    def student(exp):
        train_units(load_settings(paths, exp=exp, pseudo="soft"), paths, [0, 1], [42])
        parts = [pd.read_parquet(paths.fold(exp, 42, k) / "oof.parquet") for k in (0, 1)]
        oof = pd.concat(parts).set_index("id")["pred_target"]
        return knowledge(oof.reindex(competition.train_ids).to_numpy(), fold < 2)

    assert knowledge(told(average)) > 0.9
    assert knowledge(told(ours)) < 0.7
    honest = student("honest")
    as_labels = student_module.soft_predictions
    monkeypatch.setattr(
        student_module, "soft_predictions",
        lambda task, model, _: as_labels(task, model, average[0][:, None]),
    )  # fmt: skip
    naive = student("naive")
    assert naive > 0.8
    assert honest < 0.7


def test_averaged_labels_under_the_true_provenance_are_refused(taught, load_settings):
    labels = labels_of(taught)
    labels["pred_target"] = labels.groupby("id")["pred_target"].transform("mean")
    labels.to_parquet(taught.pseudo("soft") / PSEUDO_LABELS)
    cfg = load_settings(taught, pseudo="soft")
    with pytest.raises(DataError, match="other labels"):
        read_pseudo(cfg, taught, read_competition(cfg, taught))
