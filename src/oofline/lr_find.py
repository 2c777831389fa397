"""``oofline lr-find``: a range test, its table, its picture, and what to make of it."""

from typing import Any

import pandas as pd

from oofline.config import CFG
from oofline.errors import ConfigError
from oofline.progress import say
from oofline.report.lr_finder import range_picture
from oofline.storage import Paths, write_text
from oofline.training.lr_finder import Suggestion, range_test, suggest
from oofline.training.material import Material
from oofline.training.preparation import prepare


def run_lr_find(options: Any, paths: Paths) -> None:
    """``oofline lr-find``: writes output/<comp>/lr-find/<exp>.csv and .png, nothing else."""
    cfg: CFG = options.cfg
    material = prepare(cfg, paths) if cfg.kind == "transformer" else None
    if not isinstance(material, Material):
        raise ConfigError(f'lr-find is for kind "transformer", and kind = {cfg.kind}')
    test = range_test(cfg, material)
    suggestion = suggest(test)
    table = pd.DataFrame({"lr": test.lr, "loss": test.loss, "smoothed": test.smoothed})
    path = paths.output / "lr-find" / f"{cfg.exp}.csv"
    write_text(path, table.to_csv(index_label="step"))
    # not with_suffix: an experiment may be called "lr0.1"
    picture = range_picture(path.with_name(f"{cfg.exp}.png"), test, suggestion, cfg.exp)
    for line in advice(cfg, suggestion):
        say(line)
    say(f"range test of {len(test.lr)} steps in {path}; open {picture}")


def advice(cfg: CFG, suggestion: Suggestion | None) -> list[str]:
    """The suggestion in words, a line each."""
    if suggestion is None:
        return ["the loss did not fall at any rate: no suggestion (are more rows or larger "
                "batches there?)"]  # fmt: skip
    name = "lr" if cfg.body_lr is None else "body_lr"
    lines = [
        f"suggestion: {name} {suggestion.steepest:.1e} (steepest fall of the smoothed loss) or "
        f"{suggestion.tenth:.1e} (a tenth of the rate with the lowest loss)"
    ]
    if cfg.head_lr is not None or cfg.group_lrs:
        lines.append(f"head_lr and group_lrs went along in proportion to {name}: scale them too")
    return lines + ([f"warning: {suggestion.warning}"] if suggestion.warning else [])
