"""Handing out units to a cluster that is simulated: each once, few ahead, every kind of end."""

import importlib.util
from pathlib import Path

import pytest

from oofline.board import board
from oofline.engines import dispatch as dispatch_module
from oofline.engines.dispatch import Dispatch
from oofline.engines.outcome import Failure
from oofline.errors import OoflineError, Stopped
from oofline.training.guard import Guard

_SPEC = importlib.util.spec_from_file_location(
    "simulated", Path(__file__).with_name("simulated.py")
)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
SimulatedCluster = _MODULE.SimulatedCluster


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(dispatch_module, "CANCEL_SECONDS", 0.0)


def run(cluster, units, guard=None, **options):
    with board("units", len(units)) as table:
        dispatch = Dispatch(
            cluster, units, lambda unit: f"unit {unit}", guard or Guard(), table, **options
        )
        return dispatch.run()


def test_ten_thousand_units_over_a_hundred_nodes_that_die(capsys):
    cluster = SimulatedCluster(100, 4, deaths=0.003)
    units = list(range(10_000))
    outcomes = run(cluster, units)
    assert sorted(outcomes) == units
    assert sorted(cluster.finished) == units  # done exactly once each, by the cluster too
    assert cluster.n_deaths > 10
    assert 400 < cluster.most_submitted <= 500  # 400 slots, and a quarter of that waits
    assert capsys.readouterr().out.count("its node is gone on node-") >= cluster.n_deaths


def test_a_unit_that_loses_its_process_three_times_is_given_up():
    lost = []

    def ends(ticket, unit):
        if unit == 3:
            lost.append(ticket)
            return "lost", "its process was killed"
        return "done", unit

    cluster = SimulatedCluster(2, 1, ends=ends)
    with pytest.raises(OoflineError) as error:
        run(cluster, list(range(6)))
    assert lost == [(3, 1), (3, 2), (3, 3)]
    message = str(error.value)
    assert message.startswith("unit 3 was given up: its process was killed, 3 times in all")
    assert "node-" in message
    assert "(log: node-" in message
    assert "\n" not in message


def test_a_failed_unit_stops_the_others_which_save():
    cluster = SimulatedCluster(3, 1, ends=lambda ticket, unit: ("failed", "the loss is nan"))
    with pytest.raises(OoflineError, match=r"unit \d on node-\d failed: the loss is nan \(log: "):
        run(cluster, list(range(50)))
    assert cluster.stopping
    assert cluster.most_submitted == 5
    assert cluster.finished == []


def test_a_failed_unit_can_be_an_outcome():
    def ends(ticket, unit):
        return ("failed", "no") if unit == 1 else ("done", unit)

    noted = []
    outcomes = run(
        SimulatedCluster(2, 1, ends=ends), [0, 1, 2], go_on=True,
        after=lambda unit, outcome: noted.append((unit, outcome)),
    )  # fmt: skip
    assert Failure(1, "no") in outcomes
    assert {0, 2} < set(outcomes)
    assert dict(noted) == {0: 0, 1: Failure(1, "no"), 2: 2}
    assert [outcome for _, outcome in noted] == outcomes


def test_a_bug_keeps_its_traceback():
    cluster = SimulatedCluster(1, 1, ends=lambda ticket, unit: ("bug", "Traceback\nKeyError: 7"))
    with pytest.raises(RuntimeError, match=r"(?s)unit 0 on node-0 .*KeyError: 7"):
        run(cluster, [0])


def test_an_interrupt_is_passed_on_and_what_waits_is_taken_back():
    guard = Guard()

    def ends(ticket, unit):
        guard.interrupted = True
        return "done", unit

    cluster = SimulatedCluster(2, 1, ends=ends)
    with pytest.raises(Stopped, match="interrupted with 8 of 9 left: run the same") as stop:
        run(cluster, list(range(9)), guard)
    assert stop.value.exit_code == 130
    assert cluster.stopping


def test_the_time_limit_leaves_the_rest():
    cluster = SimulatedCluster(1, 1, ends=lambda ticket, unit: ("stopped", "time is up", 0))
    with pytest.raises(Stopped, match="time_limit_hours reached with 5 of 5 left") as stop:
        run(cluster, list(range(5)))
    assert stop.value.exit_code == 0


def test_the_time_limit_counts_for_units_that_never_begin():
    """Others may keep the cluster busy."""

    class Busy(SimulatedCluster):
        def events(self, seconds):
            return []

    guard = Guard(time_limit_hours=1e-6)
    with pytest.raises(Stopped, match="time_limit_hours reached with 3 of 3 left") as stop:
        run(Busy(1, 1), [0, 1, 2], guard)
    assert stop.value.exit_code == 0


def test_a_unit_that_never_began_names_no_place_and_no_log(capsys):
    class Broken(SimulatedCluster):
        def events(self, seconds):
            return [(ticket, "failed", "no process could be started")
                    for ticket, _ in list(self.waiting)]  # fmt: skip

    with pytest.raises(OoflineError, match=r"^unit 0 failed: no process could be started$"):
        run(Broken(1, 1), [0])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("unit 0: failed, no process could be started; units: 0 done")
    assert lines[-1] == "failed: unit 0: no process could be started"


def test_a_unit_that_another_process_has_is_not_called_done(capsys):
    run(SimulatedCluster(1, 1, ends=lambda ticket, unit: ("done", False)), [0])
    assert "left to another process; units: 1 done" in capsys.readouterr().out


def test_at_most_so_many_side_by_side():
    cluster = SimulatedCluster(10, 1)
    assert sorted(run(cluster, list(range(20)), most=2)) == list(range(20))
    assert cluster.most_submitted == 2


def test_a_cluster_without_nodes_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(dispatch_module, "GONE_SECONDS", 0.0)
    with pytest.raises(OoflineError, match="no node of the cluster could take a unit"):
        run(SimulatedCluster(0, 1), [0])
