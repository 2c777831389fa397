"""What a technique did, added up on the device and read every few steps."""

import torch
from torch import Tensor


class Tally:
    """Running means by name, over the stretch since the last look and over the whole run.

    Values stay on their device until they are read, so that counting never makes a GPU wait.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._recent: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor | float) -> None:
        """Count one value of ``name``."""
        tensor = torch.as_tensor(value).detach()
        tensor = tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)
        pair = torch.stack([tensor, torch.ones_like(tensor)])
        for sums in (self._sums, self._recent):
            sums[name] = sums[name].to(pair.device) + pair if name in sums else pair

    def recent(self) -> dict[str, float]:
        """Means since the last call; names without a value are left out."""
        recent, self._recent = self._recent, {}
        return _means(recent)

    def means(self) -> dict[str, float]:
        """Means over the whole run."""
        return _means(self._sums)

    def count(self, name: str) -> int:
        """How many values of ``name`` there were."""
        return int(self._sums[name][1]) if name in self._sums else 0

    def state(self) -> dict[str, Tensor]:
        """(2,) sum and count by name, for a resumed fold."""
        return {f"tally.{name}": pair for name, pair in self._sums.items()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take up what `state` gave."""
        self._recent = {}
        self._sums = {
            key.removeprefix("tally."): value
            for key, value in tensors.items()
            if key.startswith("tally.")
        }


def _means(sums: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(pair[0] / pair[1]) for name, pair in sums.items()}
