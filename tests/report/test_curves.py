import numpy as np
import pytest

from oofline.report.curves import learning_curves, lr_schedule
from oofline.report.style import run_color


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def diamonds(ax):
    return [line for line in ax.lines if line.get_marker() == "D"]


@pytest.mark.parametrize(("greater", "best"), [(True, (2.0, 0.7)), (False, (1.0, 0.5))])
def test_the_best_evaluation_follows_the_direction(tmp_path, drawn, history, greater, best):
    learning_curves(tmp_path / "c.png", [history()], "f1", greater)
    (mark,) = diamonds(drawn["c"].axes[2])
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == best


def test_panels_and_legend(tmp_path, drawn, history):
    runs = [history(fold, seed) for seed in (42, 43) for fold in range(3)]
    learning_curves(tmp_path / "c.png", runs, "rmse", False)
    train, valid, score = drawn["c"].axes
    assert [ax.get_title("left") for ax in (train, valid, score)] == [
        "Training loss", "Validation loss", "Validation rmse"
    ]  # fmt: skip
    assert score.get_ylabel() == "rmse (lower is better)"
    assert train.get_ylim() == valid.get_ylim()
    assert names(drawn["c"]) == [
        "fold 0", "fold 1", "fold 2", "seed 42", "seed 43", "mean", "best evaluation"
    ]  # fmt: skip
    colors = {line.get_color() for line in train.lines if line.get_linewidth() < 2}
    assert colors == {run_color(k) for k in range(3)}


def test_mean_of_evaluations_that_all_runs_reached(tmp_path, drawn, history):
    runs = [history(0, 1, (0.2, 0.4, 0.6)), history(1, 1, (0.4, 0.6))]
    learning_curves(tmp_path / "c.png", runs, "f1", True)
    (mean,) = [line for line in drawn["c"].axes[2].lines if line.get_linewidth() > 2]
    np.testing.assert_allclose(mean.get_xdata(), [1, 2])
    np.testing.assert_allclose(mean.get_ydata(), [0.3, 0.5])


def test_one_run_with_one_evaluation_and_no_defined_score(tmp_path, drawn, history):
    learning_curves(tmp_path / "c.png", [history(scores=(float("nan"),))], "roc_auc", True)
    assert names(drawn["c"]) == ["fold 0", "best evaluation"]
    assert diamonds(drawn["c"].axes[2]) == []


def test_equal_rates_share_a_line_and_frozen_ones_are_named(tmp_path, drawn):
    steps, up = np.arange(5), np.linspace(0, 1e-4, 5)
    rates = {"embeddings": 0 * up, "layer 1": up, "layer 2": up, "head": 10 * up}
    lr_schedule(tmp_path / "lr.png", steps, rates, [2, 5], "seed 1 fold 0")
    ax = drawn["lr"].axes[0]
    assert ax.get_title("left") == "Learning rate, seed 1 fold 0"
    assert names(drawn["lr"]) == ["embeddings (frozen)", "layer 1 … layer 2", "head", "evaluation"]
    np.testing.assert_allclose(ax.lines[2].get_ydata(), 10 * up)
    dotted = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
    assert dotted == [2, 5]


def test_many_groups_name_only_the_ends(tmp_path, drawn):
    steps = np.arange(4)
    rates = {f"layer {i}": steps * 1e-5 * i for i in range(1, 25)} | {"head": steps * 1e-3}
    lr_schedule(tmp_path / "lr.png", steps, rates)
    assert names(drawn["lr"]) == ["layer 1", "layer 24", "head"]
    assert len(drawn["lr"].axes[0].lines) == 25
