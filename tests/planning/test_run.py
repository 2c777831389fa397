"""`oofline plan` as a user types it: the table, plan.json, what is left alone, and refusals."""

import pytest

from oofline import cli
from oofline.planning import run as run_module
from oofline.planning.run import number_text, time_text
from oofline.storage import read_json

TOY = ("plan", "--comp", "toy", "--minutes", "0.01")


@pytest.fixture
def oofline(tmp_path, capsys, monkeypatch):
    """oofline("plan", ...) -> (exit code, stdout, stderr), run below tmp_path."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(run_module, "engine_overhead", lambda engine, paths: (0.01, "a test"))

    def run(*argv):
        code = cli.run([str(a) for a in argv], tmp_path)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_plan_says_what_folds_take_and_writes_nothing_of_the_experiment(
    write_competition, oofline
):
    paths = write_competition(n=90)
    code, out, _ = oofline(*TOY, "--seed", "1,2", "--gpus", "8xA100")
    assert code == 0
    assert not paths.experiment("base").exists()
    made = {path.name for path in paths.output.iterdir()}
    assert {name for name in made if not name.startswith("folds")} == {"plan", "oofline.log"}
    assert not list(paths.cache.glob("plan-*"))
    plan = read_json(paths.output / "plan" / "base.json")
    assert plan["units"] == [[s, k] for s in (1, 2) for k in range(3)]
    assert [row["machine"] for row in plan["machines"]] == [
        "this machine, one process", "Kaggle, 2 x T4", "Kaggle, P100", "8 x A100",
    ]  # fmt: skip
    for row in plan["machines"]:
        assert 0 < row["minutes"][0] < row["minutes"][1]
        assert (row["basis"] == "measured") == (row["machine"] == "this machine, one process")
        assert row["disk_gb"] == pytest.approx(6 * plan["measured"]["kept_gb"])
    assert "estimated from peak rates, not measured" in out
    assert "tokens/s" in out
    assert out.splitlines()[-1] == f"planned 6 folds of base; open {paths.output}/plan/base.json"
    assert plan["calibration"]["steps"] >= 3
    assert plan["engine"] == {"seconds_per_unit": 0.01, "source": "a test"}


def test_finished_folds_are_not_counted(write_competition, oofline):
    paths = write_competition(n=60, epochs=1)
    assert oofline("train", "--comp", "toy", "--fold", "1")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in paths.experiment("base").rglob("*")}
    code, out, _ = oofline(*TOY)
    assert code == 0
    assert read_json(paths.output / "plan" / "base.json")["units"] == [[42, 0], [42, 2]]
    assert "1 folds are finished already and not counted" in out
    assert {p: p.stat().st_mtime_ns for p in paths.experiment("base").rglob("*")} == before
    code, out, _ = oofline(*TOY, "--fold", "1")
    assert code == 0
    assert "nothing is left to plan: all 1 folds of base are trained" in out
    code, _, err = oofline(*TOY, "--lr", "0.5")
    assert code == 2
    assert "was started with other settings" in err
    code, out, _ = oofline(*TOY, "--trials", "4", "--fold", "1")  # a search trains them again
    assert code == 0
    assert "4 folds in 4 trials" in out
    assert "trials that are pruned take less" in out


def test_a_technique_that_costs_is_in_the_plan(write_competition, oofline):
    paths = write_competition(n=60, epochs=2)
    awp = ("--exp", "awp", "--awp-last-epochs", "1", "--awp-lr", "0.1", "--patience", "2")
    work = {}
    for exp, settings in (("base", ()), ("awp", awp)):
        code, out, _ = oofline(*TOY, *settings)
        assert code == 0
        plan = read_json(paths.output / "plan" / f"{exp}.json")
        work[exp] = plan["measured"]["network"]["train_flops"]
    assert plan["calibration"]["passes"] == [1.0, 2.0]
    assert [part["name"] for part in plan["calibration"]["stretches"]] == ["", "awp"]
    assert work["awp"] == pytest.approx(1.5 * work["base"], rel=0.1)  # twice, in one epoch of two
    assert "awp in 1 epochs" in out
    assert "an upper bound: patience = 2" in out


def test_several_devices_are_planned_side_by_side(write_competition, oofline):
    paths = write_competition(n=60, epochs=1)
    assert oofline(*TOY, "--device", "cpu,cpu")[0] == 0
    rows = read_json(paths.output / "plan" / "base.json")["machines"]
    assert [row["machine"] for row in rows[:2]] == [
        "this machine, one process", "this machine, 2 side by side",
    ]  # fmt: skip


def test_shares_of_gpus_are_planned_where_there_are_gpus(write_competition, oofline):
    paths = write_competition(n=60, epochs=1)

    def plan(share, gpus):
        """Machine -> its row."""
        code, out, _ = oofline(*TOY, "--gpus-per-fold", share, "--gpus", gpus)
        assert code == 0
        rows = read_json(paths.output / "plan" / "base.json")["machines"]
        return {row["machine"]: row for row in rows}, out

    whole, out = plan("1", "4xA100")
    assert "gpus_per_fold" not in out
    halves, out = plan("0.5", "1xA100")  # three folds, two of them side by side
    assert "gpus_per_fold = 0.5: this machine has not as many GPUs" in out
    assert "1 x A100: 2 folds at a time share a GPU" in out
    assert halves["1 x A100"]["memory_gb"][0] > 1.9 * whole["4 x A100"]["memory_gb"][0]
    pairs, out = plan("2", "4xA100")
    assert "4 x A100: 2 GPUs train a fold together" in out
    assert "left out, for a fold asks for more GPUs: Kaggle, P100" in out
    assert "Kaggle, P100" not in pairs
    assert pairs["4 x A100"]["minutes"][1] > whole["4 x A100"]["minutes"][1]
    code, _, err = oofline(*TOY, "--gpus-per-fold", "2", "--gpus", "1xA100")
    assert code == 2
    assert 'gpus = "1xA100" are too few: gpus_per_fold = 2' in err


def test_processes_that_train_a_fold_together_are_planned_as_such(write_competition, oofline):
    paths = write_competition(n=60, epochs=1)
    assert oofline(*TOY, "--device", "cpu+cpu")[0] == 0
    rows = read_json(paths.output / "plan" / "base.json")["machines"]
    assert rows[1]["machine"] == "this machine, 2 processes a fold"
    assert rows[1]["minutes"][1] > rows[0]["minutes"][1]
    assert rows[1]["memory_gb"][1] > rows[0]["memory_gb"][1]


def test_of_a_baseline_one_fold_is_the_calibration(write_competition, oofline):
    paths = write_competition(n=60)
    code, out, _ = oofline(*TOY, "--kind", "ridge")
    assert code == 0
    assert "ridge: one whole fold was fitted" in out
    plan = read_json(paths.output / "plan" / "base.json")
    assert [row["machine"] for row in plan["machines"]] == ["this machine, one process"]
    assert plan["measured"]["kept_gb"] > 0
    assert not paths.experiment("base").exists()
    code, _, err = oofline(*TOY, "--kind", "ridge", "--gpus", "2xT4")
    assert code == 2
    assert 'kind "ridge" trains on a CPU' in err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--gpus", "2xT5"), "did you mean T4?"),
        (("--gpus", "many T4"), "is not a number of GPUs"),
        (("--gpus", "2xT4", "--precision", "bf16"), "a T4 has no bf16 units"),
        (("--trials", "-1"), "trials = -1 must be at least 0"),
        (("--minutes", "0"), "minutes = 0.0 must be above 0"),
        (("--fold", "9"), "no fold 9"),
        (("--device", "cpu,cuda:7"), "cuda:7"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(write_competition, oofline, argv, says):
    paths = write_competition(n=60)
    code, _, err = oofline(*TOY, *argv)
    assert code == 2
    assert says in err
    assert len(err.splitlines()) == 1
    assert not paths.output.exists()


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        ((0.5, 0.7), "30-42 s"), ((3.14, 4.2), "3.1-4.2 min"), ((59, 61), "59-61 min"),
        ((100, 330), "1.7-5.5 h"), ((1234, 7000), "21-120 h"), ((3.01, 3.02), "3.0 min"),
    ],
)  # fmt: skip
def test_a_time_is_a_range_to_two_digits(minutes, text):
    assert time_text(minutes) == text


def test_numbers_have_no_more_digits_than_they_deserve():
    assert number_text((0.0, 0.1234)) == "0-0.12"
    assert number_text((0.00001, 0.00002)) == "0.000"
    assert number_text((1234.0, 5678.0)) == "1200-5700"
