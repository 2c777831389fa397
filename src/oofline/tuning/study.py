"""The study: one storage that all workers share, and trials that survive their process."""

import warnings
from datetime import datetime
from typing import Any, Literal

import numpy as np
import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from oofline.errors import ConfigError
from oofline.storage import Paths
from oofline.tuning.pruning import Pruning, build_pruner

BEAT_SECONDS = 5
"""A running trial says this often that it is alive."""
STALE_SECONDS = 20
"""A trial silent for this long has lost its process and is taken up by another."""
UNBEGUN_SECONDS = 120
"""A trial that no process began for this long after it was handed out is taken up by another."""
ATTEMPTS = 3
"""A trial whose process dies this many times has failed."""
STARTUP = 10
"""Most trials that are drawn at random before the search learns from them."""

Sampler = Literal["tpe", "gp", "random"]

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def storage_url(paths: Paths, name: str, given: str) -> str:
    """Where the study is kept: the URL given, or a SQLite file beside its results."""
    if given:
        return given
    return f"sqlite:///{(paths.tuning(name) / 'study.db').resolve()}"


def _connect(url: str, create: bool) -> RDBStorage:
    """Open a storage; a wrong URL, a missing driver or a silent server is the user's to fix."""
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        arguments = {"connect_args": {"timeout": 120}}
    try:
        return RDBStorage(
            url, engine_kwargs=arguments, heartbeat_interval=BEAT_SECONDS,
            grace_period=STALE_SECONDS, heartbeat_stale_trial_callback=requeue,
            skip_table_creation=not create,
        )  # fmt: skip
    except Exception as error:
        if isinstance(error, ImportError) or "sqlalchemy" in type(error).__module__:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            raise ConfigError(
                f"storage: cannot be opened ({reason}): give a URL as in "
                "postgresql://user@host/name, with its driver installed (pip install "
                "'oofline[postgres]'), or leave it out"
            ) from None
        raise


def create_study(paths: Paths, name: str, url: str, greater_is_better: bool) -> optuna.Study:
    """Make the study, or open the one there; called once before any worker starts.

    Raises:
        ConfigError: the storage cannot be opened.
    """
    return optuna.create_study(
        storage=_connect(url, create=True), study_name=f"{paths.comp}/{name}", load_if_exists=True,
        direction="maximize" if greater_is_better else "minimize",
    )  # fmt: skip


def open_study(
    paths: Paths, name: str, url: str, sampler: Sampler, seed: int, pruning: Pruning, p: float,
    n_trials: int,
) -> optuna.Study:  # fmt: skip
    """Open the study in a worker, with what proposes its trials and what stops them.

    Args:
        paths: of the competition.
        name: of the tuning.
        url: of the storage.
        sampler: see `build_sampler`.
        seed: of the sampler.
        pruning: see `build_pruner`.
        p: level of the test over folds.
        n_trials: trials of the whole search.
    """
    return optuna.load_study(
        storage=_connect(url, create=False), study_name=f"{paths.comp}/{name}",
        sampler=build_sampler(sampler, seed, n_trials), pruner=build_pruner(pruning, sampler, p),
    )  # fmt: skip


def build_sampler(kind: Sampler, seed: int, n_trials: int) -> optuna.samplers.BaseSampler:
    """What proposes values: the tree-structured Parzen estimator, a Gaussian process, or chance.

    Bergstra 2011 (TPE), with running trials counted as bad ones, so that parallel workers do not
    try the same; Matern 2.5 with expected improvement (GP). A quarter of the trials, `STARTUP` at
    most, are drawn at random first.
    """
    startup = min(STARTUP, max(4, n_trials // 4))
    if kind == "gp":
        return optuna.samplers.GPSampler(seed=seed, n_startup_trials=startup)
    if kind == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=True)


def home_of(trial: FrozenTrial) -> int:
    """Number of the trial whose experiment this one goes on with: its own, as a rule."""
    return int(trial.user_attrs.get("home", trial.number))


def requeue(study: optuna.Study, trial: FrozenTrial, died: bool = True) -> None:
    """Let the next free worker go on with a trial that was left.

    It keeps its values and its experiment, so finished folds and saved states are taken up.

    Args:
        study: the study.
        trial: what was left.
        died: whether its process died, after which it is taken up `ATTEMPTS` times at most; else
            it was interrupted, which may happen any number of times.
    """
    attempt = int(trial.user_attrs.get("attempt", 1)) + died
    if attempt > ATTEMPTS or not trial.params:
        return
    attributes = {**trial.user_attrs, "home": home_of(trial), "attempt": attempt}
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING, params=trial.params, distributions=trial.distributions,
            user_attrs=attributes,
        )
    )  # fmt: skip


def take_up_lost(study: optuna.Study) -> None:
    """Queue every trial again whose process is gone, also one that never said that it is alive.

    Optuna knows a lost trial by the signs of life that have ended. The others are those whose
    process ended while it chose values, or before its first sign of life.
    """
    optuna.storages.fail_stale_trials(study)
    alive = _with_sign_of_life(study)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        since = trial.datetime_start or datetime.now()
        waited = (datetime.now() - since).total_seconds()
        if trial._trial_id in alive or waited < UNBEGUN_SECONDS:
            continue
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        requeue(study, trial)
        if "fixed_params" in trial.system_attrs:  # the default
            study.enqueue_trial(trial.system_attrs["fixed_params"])


def _with_sign_of_life(study: optuna.Study) -> set[int]:
    """Ids of all trials that gave one, which Optuna writes down but does not tell."""
    storage: Any = study._storage
    with storage._backend.engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("SELECT trial_id FROM trial_heartbeats"))
        return set(rows.scalars())


def latest(study: optuna.Study) -> dict[int, FrozenTrial]:
    """Home -> the trial that last went on with it, in the order of their start."""
    found: dict[int, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        lost = trial.state == TrialState.FAIL and not trial.params
        if not lost:
            found[home_of(trial)] = trial
    return found


def counts(study: optuna.Study) -> dict[TrialState, int]:
    """How many trials are in which state, each counted once."""
    states = [trial.state for trial in latest(study).values()]
    return {state: states.count(state) for state in TrialState}


def seed_of(seed: int, *numbers: int) -> int:
    """A sampler's seed, different for each unit of work."""
    return int(np.random.SeedSequence([seed, *numbers]).generate_state(1)[0])
