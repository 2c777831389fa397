"""The verbs of the command line and their options."""

import re

from oofline.verbs.delivery import Download, Kernel, KernelPush, KernelRehearse, Ledger, Submit
from oofline.verbs.work import (
    Ablation,
    Compare,
    Config,
    Demo,
    Ensemble,
    Folds,
    LrFind,
    Metrics,
    Oof,
    Plan,
    Predict,
    Pretrain,
    Pseudo,
    Submission,
    Sync,
    Train,
    Tune,
)


def verbs() -> dict[str, type]:
    """Verb -> its options."""
    kinds = (
        Demo, Download, Folds, LrFind, Plan, Pretrain, Train, Pseudo, Oof, Ensemble, Predict,
        Submission, Submit, Ledger, Kernel, KernelRehearse, KernelPush, Compare, Ablation, Tune,
        Sync, Config, Metrics,
    )  # fmt: skip
    return {re.sub("(?<=[a-z])([A-Z])", r"-\1", kind.__name__).lower(): kind for kind in kinds}
