"""Connecting to Ray: what is refused before anything is started."""

import socket
import sys

import pytest

from oofline.engines.needs import Needs
from oofline.engines.ray_start import connected, wait_for_nodes
from oofline.errors import ConfigError


def test_an_address_where_nothing_listens_is_one_line_at_once(monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        with pytest.raises(ConfigError, match=r"^RAY_ADDRESS = .*: no cluster there") as error:
            connected().__enter__()
    assert "\n" not in str(error.value)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'oofline\[ray\]'"):
        connected().__enter__()


class Growing:
    """A cluster whose node with a GPU comes at the third look."""

    def __init__(self):
        self.looks, self.asked = 0, []

    def nodes(self):
        self.looks += 1
        gpus = {"GPU": 1.0} if self.looks >= 3 else {}
        return [{"Alive": True, "Resources": {"CPU": 4.0} | gpus}]


def test_a_larger_node_is_waited_for_where_that_is_asked(monkeypatch):
    sdk = pytest.importorskip("ray.autoscaler.sdk", reason="ray is not installed")
    cluster = Growing()
    monkeypatch.setattr(sdk, "request_resources", lambda bundles: cluster.asked.append(bundles))
    monkeypatch.setattr("oofline.engines.ray_start.WAIT_SECONDS", 0.0)
    wait_for_nodes(cluster, Needs(1, 1.0), minutes=1.0, n_units=2)
    assert cluster.asked == [[{"CPU": 1, "GPU": 1.0}] * 2, []]  # [] = and let them go when idle
    assert cluster.looks >= 3
    with pytest.raises(ConfigError, match="asks for 1 CPU and 1 GPU on one node"):
        wait_for_nodes(Growing(), Needs(1, 1.0), minutes=0.0, n_units=2)
