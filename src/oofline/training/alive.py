"""What a fold asks of its techniques as a whole."""

import contextlib
from collections.abc import Iterator

from torch import nn

from oofline.errors import ConfigError
from oofline.techniques import Technique


def copies_of(techniques: list[Technique]) -> tuple[int, bool]:
    """Forward passes of every row in a step, and whether they may run as one larger batch."""
    return (
        max((technique.copies for technique in techniques), default=1),
        all(technique.one_pass for technique in techniques),
    )


@contextlib.contextmanager
def evaluating(techniques: list[Technique], model: nn.Module) -> Iterator[None]:
    """The model as it predicts and is saved; leaving puts the training weights back."""
    with contextlib.ExitStack() as stack:
        for technique in techniques:
            stack.enter_context(technique.evaluating(model))
        yield


def check_alive(techniques: list[Technique], finished: bool) -> None:
    """Stop a run whose technique is configured and does nothing.

    Args:
        techniques: those of the fold.
        finished: at the end of training, when never having begun counts too.

    Raises:
        ConfigError: names the technique, why it had no effect, and what to change.
    """
    for technique in techniques:
        problem = technique.verdict(finished)
        if problem is not None:
            raise ConfigError(f"{technique.name} had no effect: {problem}")


def liveness(techniques: list[Technique]) -> dict[str, dict[str, float]]:
    """What each technique did over the whole run, for scores.json."""
    return {technique.name: technique.tally.means() for technique in techniques}
