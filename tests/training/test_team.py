"""What the processes of a team tell each other; two real ones over gloo."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from oofline.errors import OoflineError, Stopped
from oofline.training import team as team_module
from oofline.training.guard import Guard
from oofline.training.keeper import Keeper
from oofline.training.team import ALONE, AgreedOutOfMemoryError, fingerprint, join, leave

WAIT = 300
"""Seconds after which a test that hangs fails."""


@pytest.fixture
def both(forked, tmp_path):
    """both(function) -> what function(team) gave in each of two processes."""

    def run(rank, function, pipe):
        found = function(join(rank, 2, "cpu", tmp_path / "meeting"))
        pipe.send(found)
        leave()

    def both(function):
        pipes, processes = [], []
        for rank in (0, 1):
            ours, theirs = forked.Pipe()
            processes.append(forked.Process(target=run, args=(rank, function, theirs)))
            processes[-1].start()
            theirs.close()
            pipes.append(ours)
        try:
            assert all(pipe.poll(WAIT) for pipe in pipes)
            return [pipe.recv() for pipe in pipes]
        finally:
            for process in processes:
                process.join(WAIT)
                process.kill()

    return both


def weights(*numbers):
    return [nn.Parameter(torch.tensor(number, dtype=torch.float32)) for number in numbers]


def summed(team):
    """One parameter has a gradient everywhere, one in the second process, one nowhere."""
    parameters = weights([1.0, 2.0, 3.0], [4.0], [5.0])
    parameters[0].grad = torch.tensor([1.0, 10.0, 100.0]) * (team.rank + 1)
    if team.rank == 1:
        parameters[1].grad = torch.tensor([7.0])
    loss, count = torch.tensor(0.25), torch.tensor(team.rank + 1, dtype=torch.float64)
    team.add_up_gradients(parameters, loss, count)
    gradients = [None if p.grad is None else p.grad.tolist() for p in parameters]
    return gradients, float(loss), float(count)


def test_gradients_are_added_up_in_buckets(both, monkeypatch):
    monkeypatch.setattr(team_module, "BUCKET_BYTES", 8)  # more buckets than one
    one, two = both(summed)
    assert one == two == ([[3.0, 30.0, 300.0], [7.0], None], 0.5, 3.0)
    assert summed(ALONE) == ([[1.0, 10.0, 100.0], None, None], 0.25, 1.0)


def short_of_memory(team):
    """The first process has no room for the gradient that the second has."""
    parameters = weights([1.0])
    if team.first:
        team_module.torch = SimpleNamespace(**vars(torch) | {"zeros_like": refuse})
    else:
        parameters[0].grad = torch.tensor([7.0])
    try:
        team.add_up_gradients(parameters)
    except OoflineError as error:
        return str(error)


def refuse(tensor):
    raise torch.OutOfMemoryError("CUDA out of memory")


def test_no_memory_for_a_gradient_ends_the_fold_in_place_of_a_wait(both):
    one, two = both(short_of_memory)
    assert one.startswith("out of GPU memory while gradients are added up")
    assert two.startswith("another process of this fold has ended, or cannot be reached (")


def test_a_gpu_is_joined_by_its_number_and_early_drivers_are_helped(monkeypatch, tmp_path):
    found = {}
    monkeypatch.setattr(team_module.os, "environ", {})
    monkeypatch.setattr("accelerate.PartialState", lambda **about: found.update(about))
    monkeypatch.setattr("accelerate.utils.check_cuda_p2p_ib_support", lambda: False)
    team = join(1, 2, "cuda:3", tmp_path / "meeting")
    assert (team.rank, team.size, team.first) == (1, 2, False)
    assert (found["cpu"], found["backend"]) == (False, "cpu:gloo,cuda:nccl")
    assert (found["rank"], found["world_size"]) == (1, 2)
    named = ("LOCAL_RANK", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE")
    assert [team_module.os.environ[name] for name in named] == ["3", "1", "1"]


def agreed(team):
    """What is told, and how blocks are left that fail in one process only."""
    found = [team.most(team.rank + 3), team.any(team.rank == 1), team.any(False)]
    found.append(team.gather({"rank": team.rank}))
    for failing in ("outer", "inner", "after"):
        try:
            with team.together():
                if failing == "outer" and team.rank == 0:
                    raise torch.OutOfMemoryError("on the way")
                with team.together():
                    if failing == "inner" and team.rank == 1:
                        raise torch.OutOfMemoryError("inside")
                if failing == "after" and team.rank == 0:
                    raise torch.OutOfMemoryError("behind")
        except AgreedOutOfMemoryError as error:
            found.append(str(error))
    try:
        with team.together():
            if team.rank == 1:
                raise Stopped("interrupted: it is saved", 130)
    except Stopped as stop:
        found.append((str(stop), stop.exit_code))
    with team.together():
        found.append(team.rank)
    return found


def test_what_one_process_wants_all_do(both):
    one, two = both(agreed)
    assert (one[-1], two[-1]) == (0, 1)
    assert one[:-1] == two[:-1]
    assert one[:4] == [4, True, False, [{"rank": 0}, {"rank": 1}]]
    assert one[4:-1] == ["on the way", "inside", "behind", ("interrupted: it is saved", 130)]


def kept(team):
    """Only the first process's last state is old enough."""
    pulse, written = SimpleNamespace(flush=lambda: None, restart=lambda: None), []
    minutes = 0.0 if team.first else 60.0
    keeper = Keeper(Guard(), pulse, lambda: written.append(team.rank), minutes, "a fold", team)
    keeper.save_if_due()
    return written


def test_all_processes_save_when_one_is_due(both):
    assert both(kept) == [[0], [1]]


def test_alone_nothing_is_changed():
    assert (ALONE.most(3), ALONE.any(True), ALONE.gather(5)) == (3, True, [5])
    with pytest.raises(torch.OutOfMemoryError, match="mine"), ALONE.together():
        raise torch.OutOfMemoryError("mine")
    ALONE.check_same(nn.Linear(2, 2))


def test_the_fingerprint_sees_every_bit():
    model = nn.Linear(3, 2)
    before = fingerprint(model)
    assert fingerprint(model) == before
    assert len(before) == 2
    with torch.no_grad():
        model.weight[1, 2] = torch.nextafter(model.weight[1, 2], torch.tensor(9.0))
        assert fingerprint(model) != before
        model.half()
        half = fingerprint(model)
        model.bias[0] = -model.bias[0]
    assert fingerprint(model) != half
