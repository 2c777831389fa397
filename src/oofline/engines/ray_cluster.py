"""A Ray cluster that is connected to, as `dispatch.Cluster`."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oofline.engines.desk import Desk
from oofline.engines.dispatch import Event, Ticket
from oofline.engines.needs import Needs
from oofline.engines.ray_start import nodes_of
from oofline.engines.ray_task import Order
from oofline.errors import ConfigError, OoflineError

PROBE_SECONDS = 120.0
"""A node that has not answered by then is left alone; its units will tell."""

Fetch = Callable[[list[str], Path | None], None]
"""(keys of a finished unit, its log) -> brings them here from a store."""


class RayCluster:
    """Units of one command on a cluster that is connected to.

    Args:
        ray: the module, connected.
        order: what all units have in common.
        needs: of each unit.
        fetch: brings finished units here; None = they are here.
        alone: each unit gets a new process, so that its peak memory is its own.
    """

    def __init__(
        self, ray: Any, order: Order, needs: Needs, fetch: Fetch | None = None, alone: bool = False
    ) -> None:
        self.ray, self.order, self.needs, self.fetch = ray, order, needs, fetch
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self.desk = ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()
        self._order = ray.put(order)
        self._task = _task(ray, needs, alone)
        self._tickets: dict[Any, Ticket] = {}
        self._logs: dict[Ticket, Path] = {}

    def slots(self) -> int:
        """Units that could run at the same time on the nodes that are alive."""
        return self.needs.slots(nodes_of(self.ray))

    def submit(self, ticket: Ticket, unit: Any, name: str) -> None:
        """Hand a unit to Ray."""
        self._tickets[self._task.remote(self._order, self.desk, ticket, unit, name)] = ticket

    def events(self, seconds: float) -> list[Event]:
        """What the units said, and how those ended that did (OoflineError: the cluster is gone)."""
        try:
            return self._events(seconds)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise OoflineError(
                f"the cluster is gone ({reason}): the same command goes on from the saved states"
            ) from error

    def _events(self, seconds: float) -> list[Event]:
        references = list(self._tickets)
        ended: list[Any] = []
        if references:
            self.ray.wait(references, num_returns=1, timeout=seconds)
            ended, _ = self.ray.wait(references, num_returns=len(references), timeout=0)
        else:
            time.sleep(seconds)
        events: list[Event] = [tuple(e) for e in self.ray.get(self.desk.collect.remote())]
        self._logs |= {event[0]: event[3] for event in events if event[1] == "begun"}
        for reference in ended:
            events += self._ended(self._tickets.pop(reference), reference)
        return events

    def _ended(self, ticket: Ticket, reference: Any) -> list[Event]:
        """The last events of a ticket."""
        keys: list[str] = []
        try:
            rest, end, keys = self.ray.get(reference)
        except Exception as error:
            rest, end = [], self._failure(error)
        self._logs |= {event[0]: event[3] for event in rest if event[1] == "begun"}
        if self.fetch is not None:
            self.fetch(keys, self._logs.pop(ticket, None))
        return [*map(tuple, rest), (ticket, *end)]

    def _failure(self, error: Exception) -> tuple[str, str]:
        """What Ray says of a task that gave nothing."""
        e = self.ray.exceptions
        lost = {
            e.NodeDiedError: "its node is gone", e.WorkerCrashedError: "its process was killed",
            e.LocalRayletDiedError: "its node is gone", e.ObjectLostError: "its node is gone",
            e.OutOfMemoryError: "its process was killed, the node ran out of memory",
        }  # fmt: skip
        for kind, reason in lost.items():
            if isinstance(error, kind):
                return "lost", reason
        if isinstance(error, e.RayError):
            return "bug", str(error)
        raise error

    def stop(self) -> None:
        """Ask every unit to save and stop."""
        self.desk.stop.remote()

    def cancel(self, tickets: list[Ticket]) -> None:
        """Take units back that have not begun."""
        for reference in [r for r, ticket in self._tickets.items() if ticket in tickets]:
            self.ray.cancel(reference)
            del self._tickets[reference]

    def check_nodes(self) -> None:
        """See that each node has the same code, and the project, before anything is trained.

        Raises:
            ConfigError: one does not.
        """
        witness = self.order.logs / f".{self.order.run}"
        witness.touch()
        try:
            problems = self._probed(witness)
        finally:
            witness.unlink()
        if problems:
            raise ConfigError(problems[0])

    def _probed(self, witness: Path) -> list[str]:
        strategy = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        probe, version = _probe(self.ray), self.order.version
        seen = "" if self.order.store else str(witness)
        nodes = [n for n in self.ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
        asked = {
            probe.options(scheduling_strategy=strategy(n["NodeID"], soft=True)).remote(
                version, seen
            ): n["NodeManagerHostname"]
            for n in nodes
        }
        ready, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
        try:
            answers = {asked[reference]: self.ray.get(reference) for reference in ready}
        except self.ray.exceptions.RayError as error:
            raise OoflineError(f"a node of the cluster does not answer: {error}") from None
        return [f"node {host}: {problem}" for host, problem in answers.items() if problem]


def _task(ray: Any, needs: Needs, alone: bool) -> Any:
    """`run_unit` as a Ray task; a lost one is not Ray's to try again."""

    def task(*args: Any) -> Any:
        """Call the node's own code: this function travels by its own source."""
        from oofline.engines.ray_task import run_unit

        return run_unit(*args)

    calls = {"max_calls": 1} if alone else {}
    return ray.remote(
        num_cpus=needs.cpus, num_gpus=needs.gpus, max_retries=0, scheduling_strategy="SPREAD",
        **calls,
    )(task)  # fmt: skip


def _probe(ray: Any) -> Any:
    """A task that needs no code of ours on its node: it travels by its own source."""

    def probe(version: str, witness: str) -> str:
        """What is wrong with the node that this runs on; "" = nothing."""
        import pathlib

        try:
            from oofline.engines.code_version import code_version
        except ImportError as error:
            return f"oofline is not installed there ({error}): install {version} on every node"
        theirs = code_version()
        if theirs != version:
            return f"it has oofline {theirs}, this command {version}: install the same everywhere"
        if witness and not pathlib.Path(witness).is_file():
            return (
                f"it does not see {pathlib.Path(witness).parent}: set shared_storage to what every "
                "node reaches, a folder or s3://bucket/name, or put the project on a shared disk"
            )
        return ""

    return ray.remote(num_cpus=0, max_retries=0)(probe)
