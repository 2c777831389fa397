"""Connecting to Ray: the cluster at RAY_ADDRESS, or one on this machine for a command."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from oofline.engines.needs import Needs, Node, refuse_too_large
from oofline.errors import ConfigError

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # of a lost node it would print pages; we say it in a line
}
_LOCAL = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # by default its processes give way to all others: folds starve
}
REACH_SECONDS = 10.0
"""An address that has not answered by then is no cluster's."""
WAIT_SECONDS = 2.0
"""How often nodes are looked for while none is large enough."""


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Ray, connected to the cluster at RAY_ADDRESS, else to a new one that ends with the block.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    for name, value in (_QUIET | ({} if address else _LOCAL)).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ConfigError("engine = \"ray\" needs Ray: pip install 'oofline[ray]'") from None
    if ray.is_initialized():
        yield ray
        return
    _reach(address)
    options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"RAY_ADDRESS = {address or '(none)'}: no cluster to work with ({reason})"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Refuse a "host:port" where nothing listens (ConfigError): Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), REACH_SECONDS).close()
    except OSError as error:
        raise ConfigError(
            f"RAY_ADDRESS = {address}: no cluster there ({error.strerror or error}): start one "
            "with `ray start --head`, or unset it for one on this machine"
        ) from None


def nodes_of(ray: Any) -> list[Node]:
    """CPUs and GPUs of every node that is alive."""
    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def wait_for_nodes(ray: Any, needs: Needs, minutes: float, n_units: int) -> None:
    """Refuse what no node can run, at once or after asking an autoscaler for that long.

    Raises:
        ConfigError: there is no such node.
    """
    end = time.monotonic() + 60.0 * minutes
    if minutes and not needs.slots(nodes_of(ray)):
        from ray.autoscaler.sdk import request_resources

        bundle = {"CPU": needs.cpus} | ({"GPU": needs.gpus} if needs.gpus else {})
        request_resources(bundles=[bundle] * min(n_units, 100))
        try:
            while not needs.slots(nodes_of(ray)) and time.monotonic() < end:
                time.sleep(WAIT_SECONDS)
        finally:
            request_resources(bundles=[])  # else the nodes would stay when all is done
    refuse_too_large(needs, nodes_of(ray))
