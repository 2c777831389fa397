"""Experiment tracking with wandb that never asks, never waits long and never stops training.

One run per (experiment, seed, fold) and one per experiment for its out-of-fold score. Everything
wandb writes lies below ``output/<comp>/wandb``; without a key it stays there until `sync`.
"""

from oofline.tracking.start import fold_tracker, oof_tracker, tracking_mode
from oofline.tracking.tracker import Tracker
from oofline.tracking.upload import sync

__all__ = ["Tracker", "fold_tracker", "oof_tracker", "sync", "tracking_mode"]
