"""A cluster of two nodes on this machine that loses one in the middle of a fold.

    python tests/engines/two_nodes.py [--keep FOLDER]

It trains the folds of a toy competition on this machine without interruption, then on two Ray
nodes: one of them is removed while it trains, and the process of the other is killed. It prints
what a user sees, and compares the models bit for bit.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from safetensors import safe_open

WAIT = 1200
"""Seconds after which something that does not happen counts as failed."""


@contextlib.contextmanager
def cluster_of(*nodes, **environ):
    """Head without CPUs and a node for each dict of arguments; RAY_ADDRESS names it meanwhile."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AUTH_MODE", "disabled"),
        ("RAY_DEDUP_LOGS_SKIP_REGEX", "^"), ("RAY_worker_niceness", "0"),
    ):  # fmt: skip
        os.environ.setdefault(name, value)
    import ray
    from ray.cluster_utils import Cluster

    former = {name: os.environ.get(name) for name in ("RAY_ADDRESS", *environ)}
    os.environ.update(environ)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for arguments in nodes:
            cluster.add_node(**arguments)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        if ray.is_initialized():
            ray.shutdown()
        cluster.shutdown()
        for name, value in former.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def wait_for(condition, what):
    """The first true value of ``condition()``."""
    deadline = time.monotonic() + WAIT
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.02)
    return value


def started(paths, exp, fold):
    """Log of a fold that has saved its state after some steps, else None."""
    logs = list((paths.experiment(exp) / "workers").glob(f"*-seed-42-fold-{fold}.log"))
    return logs[0] if logs and saved_step(paths.fold(exp, 42, fold)) >= 2 else None


def saved_step(folder):
    """Step of a fold's saved state; 0 where there is none."""
    state = folder / "state.safetensors"
    if not state.exists():
        return 0
    with safe_open(state, "pt") as handle:
        return json.loads(handle.metadata()["progress"])["step"]


def node_of(cluster, log):
    """The node that writes this log: the start of its id stands in the log's name."""
    short = log.name.split("-seed-")[0].rpartition("-")[2]
    return next(node for node in cluster.worker_nodes if node.node_id.startswith(short))


def process_of(log):
    """The worker of the cluster that has this log open."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            worker = process.name().startswith("ray::")  # looking into all files of all is slow
            if worker and str(log) in {handle.path for handle in process.open_files()}:
                return process
    return None


class Accidents(threading.Thread):
    """Kill the process of one fold, then remove the node of another, once both have a state.

    Both are frozen as soon as they have one, so that neither ends before its accident, and the
    process of the removed node lives no longer than its node.
    """

    def __init__(self, cluster, paths, exp, say=print):
        super().__init__(daemon=True)
        self.cluster, self.paths, self.exp, self.say = cluster, paths, exp, say
        self.error = None

    def run(self):
        try:
            frozen = [self._freeze(fold) for fold in (0, 1)]
            (first, log), (second, other) = frozen
            self.say(f"--- kill -9 the process of fold 0 ({log.stem.split('-seed')[0]})")
            first.kill()
            self.say(f"--- remove the node of fold 1 ({other.stem.split('-seed')[0]})")
            self.cluster.remove_node(node_of(self.cluster, other), allow_graceful=False)
            second.kill()
        except BaseException as error:
            self.error = error
            raise

    def _freeze(self, fold):
        log = wait_for(lambda: started(self.paths, self.exp, fold), f"fold {fold}")
        process = wait_for(lambda: process_of(log), "its process")
        process.suspend()
        assert not (self.paths.fold(self.exp, 42, fold) / "scores.json").exists()
        return process, log


def same_bits(paths, first, second, units):
    """Whether models and predictions of two experiments are equal, bit for bit."""
    names = ("model.safetensors", "oof.parquet", "test.parquet")
    return all(
        (paths.fold(first, *unit) / name).read_bytes()
        == (paths.fold(second, *unit) / name).read_bytes()
        for unit in units
        for name in names
    )


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--keep", default="", help="folder of the project; default: a temporary one"
    )
    options = parser.parse_args(argv)
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import _save, competition_writer

    from oofline import cli

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(options.keep or temporary)
        write = competition_writer(lambda family: _save(family, root / "models" / family))
        paths = write(root, "binary", 48, epochs=30, save_minutes=0.0, cpus_per_fold=1)
        words = ("train", "--comp", "toy", "--fold", "0,1", "--exp")
        print("$ oofline train --exp local")
        cli.run([*words, "local"], root)
        with cluster_of({"num_cpus": 1}, {"num_cpus": 1}) as cluster:
            accidents = Accidents(cluster, paths, "cluster")
            accidents.start()
            print("$ RAY_ADDRESS=... oofline train --exp cluster --engine ray")
            cli.run([*words, "cluster", "--engine", "ray"], root)
        for log in sorted((paths.experiment("cluster") / "workers").glob("*.log")):
            lines = [line for line in log.read_text().splitlines() if "resumed" in line]
            print("\n".join([f"--- {log.name}: {'' if lines else 'not resumed'}", *lines]))
        same = same_bits(paths, "local", "cluster", [(42, 0), (42, 1)])
        print(f"models and predictions are {'equal' if same else 'NOT equal'} bit for bit")
        return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
