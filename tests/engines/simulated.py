"""A cluster of made-up nodes in simulated time: what dispatch does, without any process."""

import heapq
import random
from collections import deque
from pathlib import Path


class SimulatedCluster:
    """``n_nodes`` nodes, each with ``slots`` units side by side; nodes die, and new ones come.

    Args:
        n_nodes: nodes.
        per_node: units of a node side by side.
        deaths: probability that an ending of a unit is the end of its node.
        ends: (ticket, unit) -> the last event of a ticket; every unit is "done" by default.
        seed: of durations and deaths.
    """

    def __init__(self, n_nodes, per_node, deaths=0.0, ends=None, seed=0):
        self.rng, self.n_nodes, self.per_node = random.Random(seed), n_nodes, per_node
        self.deaths, self.ends = deaths, ends or (lambda ticket, unit: ("done", unit))
        self.free = deque(node for node in range(n_nodes) for _ in range(per_node))
        self.waiting, self.running = deque(), []  # tickets; (time, ticket, unit, node)
        self.now, self.stopping = 0.0, False
        self.finished, self.most_submitted, self.n_deaths = [], 0, 0
        self.heard = []

    def slots(self):
        return self.n_nodes * self.per_node

    def submit(self, ticket, unit, name):
        self.waiting.append((ticket, unit))
        submitted = len(self.waiting) + len(self.running)
        self.most_submitted = max(self.most_submitted, submitted)

    def events(self, seconds):
        """Start what fits, then go on to the next ending."""
        events = self.heard
        self.heard = []
        while self.waiting and self.free:
            (ticket, unit), node = self.waiting.popleft(), self.free.popleft()
            end = self.now + self.rng.expovariate(1.0)
            heapq.heappush(self.running, (end, ticket, unit, node))
            events.append((ticket, "begun", f"node-{node}", Path(f"node-{node}-{ticket[0]}.log")))
        if self.running:
            self.now, ticket, unit, node = heapq.heappop(self.running)
            if self.stopping:
                events.append((ticket, "stopped", "saved", 130))
                self.free.append(node)
            elif self.rng.random() < self.deaths:
                events += self._die(ticket, node)
            else:
                self.free.append(node)
                end = self.ends(ticket, unit)
                if end[0] == "done":
                    self.finished.append(unit)
                events.append((ticket, *end))
        return events

    def _die(self, ticket, node):
        """Everything on this node is lost; another node comes in its place."""
        self.n_deaths += 1
        lost = [ticket, *(entry[1] for entry in self.running if entry[3] == node)]
        self.running = [entry for entry in self.running if entry[3] != node]
        heapq.heapify(self.running)
        self.free.extend([node] * len(lost))
        return [(ticket, "lost", "its node is gone") for ticket in lost]

    def stop(self):
        self.stopping = True

    def cancel(self, tickets):
        self.waiting = deque(entry for entry in self.waiting if entry[0] not in tickets)
