"""What a fold asks of a node, and clusters that can never give it."""

import pytest
import threadpoolctl
import torch

from oofline.config import CFG
from oofline.engines.needs import Needs, Node, needs_of, refuse_too_large
from oofline.engines.threads import limit_threads, threads_per_fold
from oofline.errors import ConfigError

CPUS, GPUS = Node(8, 0), Node(8, 2)


@pytest.mark.parametrize(("settings", "nodes", "needs"), [
    ({"cpus_per_fold": 3}, [CPUS], Needs(3, 0)),
    ({"cpus_per_fold": 3}, [CPUS, GPUS], Needs(3, 1.0)),
    ({}, [GPUS], Needs(1, 1.0)),
    ({"gpus_per_fold": 0.5}, [GPUS], Needs(1, 0.5)),
    ({"gpus_per_fold": 2}, [GPUS], Needs(1, 2)),
    ({"device": "cuda"}, [CPUS], Needs(1, 1.0)),
    ({"device": "cpu", "cpus_per_fold": 2}, [GPUS], Needs(2, 0)),
    ({"kind": "ridge", "cpus_per_fold": 2}, [GPUS], Needs(2, 0)),
])  # fmt: skip
def test_what_a_fold_asks_for(settings, nodes, needs):
    assert needs_of(CFG(engine="ray", **settings), nodes) == needs


def test_a_fold_has_the_threads_that_this_machine_would_give_it(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert threads_per_fold(CFG(device="cpu")) == 6
    assert threads_per_fold(CFG(device="cpu,cpu,cpu")) == 2
    assert threads_per_fold(CFG(device="cpu,cpu", cpus_per_fold=5)) == 5
    assert needs_of(CFG(engine="ray", device="cpu,cpu"), [CPUS]).cpus == 3


def test_threads_are_limited_for_torch_and_for_what_numpy_calls():
    former = torch.get_num_threads()
    try:
        limit_threads(3)
        assert torch.get_num_threads() == 3
        limit_threads(1)
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    finally:
        torch.set_num_threads(former)


@pytest.mark.parametrize(("needs", "nodes", "slots"), [
    (Needs(1, 0), [Node(8, 0), Node(2, 0)], 10),
    (Needs(3, 0), [Node(8, 0), Node(2, 0)], 2),
    (Needs(1, 0.5), [Node(8, 2), Node(3, 4)], 7),  # the second has CPUs for three only
    (Needs(1, 0.3), [Node(8, 1)], 3),
    (Needs(1, 0.6), [Node(8, 2)], 2),  # what is left of a GPU beside one fold holds no other
    (Needs(1, 2), [Node(8, 3), Node(8, 1)], 1),
    (Needs(1, 1), [], 0),
])  # fmt: skip
def test_how_many_fit(needs, nodes, slots):
    assert needs.slots(nodes) == slots


@pytest.mark.parametrize(("needs", "says"), [
    (Needs(64, 0), "64 CPUs on one node, but the largest of the cluster's 2 nodes has 8 CPUs"),
    (Needs(1, 4), "1 CPU and 4 GPUs on one node"),
    (Needs(10, 0.5), "10 CPUs and 0.5 GPU on one node"),
])  # fmt: skip
def test_what_no_node_has_is_refused(needs, says):
    with pytest.raises(ConfigError, match=says):
        refuse_too_large(needs, [CPUS, GPUS])
    refuse_too_large(Needs(8, 2), [CPUS, GPUS])


@pytest.mark.parametrize(("settings", "says"), [
    ({"gpus_per_fold": 1.5}, "a whole number of GPUs"),
    ({"gpus_per_fold": 0}, "out of range"),
    ({"engine": "ray", "device": "mps"}, "leave out device"),
])  # fmt: skip
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ConfigError, match=says):
        CFG(**settings)
