"""Units of work done one after the other in this process, shown as any others are."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from oofline.board import board
from oofline.errors import OoflineError
from oofline.progress import followed


def in_turn(
    units: Sequence[Any],
    do: Callable[[Any], Any],
    name: Callable[[Any], str],
    where: str,
    log: Path,
) -> list[Any]:
    """Do every unit; several are shown in one table, and one by its own bar.

    Args:
        units: what is to be done.
        do: does one.
        name: how one is called, each differently.
        where: the device, as the table calls it.
        log: file that holds what is said meanwhile.

    Returns:
        What each unit gave.

    Raises:
        Stopped, OoflineError: what a unit raised; the others are left.
    """
    if len(units) < 2:
        return [do(unit) for unit in units]
    outcomes = []
    with board("units", len(units)) as table:
        for unit in units:
            called = name(unit)
            table.begin(called, where, log)
            try:
                with followed(functools.partial(table.follow, called)):
                    outcomes.append(do(unit))
            except OoflineError as error:
                table.fail(called, str(error), log)
                raise
            table.end(called, outcomes[-1])
    return outcomes
