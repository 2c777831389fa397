"""How far training moved the encoder from its pretrained weights, layer by layer."""

import math

import torch
from torch import Tensor, nn

from oofline.errors import ConfigError, OoflineError
from oofline.models.structure import parameter_depth
from oofline.models.text_model import TextModel

SAMPLE = 2048
"""Most elements that are kept of each parameter."""


def evenly_spaced(parameter: Tensor) -> Tensor:
    """At most `SAMPLE` evenly spaced elements of a parameter, as a (k,) view where it can be one.

    The stride shares no factor with the length of a row: otherwise the sample of a matrix would
    stand in a few of its columns.
    """
    flat = parameter.detach().reshape(-1)
    stride = max(1, math.ceil(flat.numel() / SAMPLE))
    while math.gcd(stride, parameter.shape[-1] if parameter.ndim else 1) > 1:
        stride += 1
    return flat[::stride]


class Drift:
    """Relative distance ||w - w0|| / ||w0|| of the encoder, estimated from a sample.

    Make it on the training device, when the optimizer is built and before a saved state is
    loaded: w0 are then the pretrained weights in a resumed run too. (Of re-initialised layers
    they are the new random values, so that the distance says how far these were trained.)

    Args:
        model: its backbone is looked at; the head starts at random and is left out.
    """

    def __init__(self, model: TextModel) -> None:
        depths = parameter_depth(model.backbone)
        pairs = model.backbone.named_parameters()  # weights packed into 4 bits never move
        named = {name: parameter for name, parameter in pairs if parameter.is_floating_point()}
        self._parameters: list[nn.Parameter] = list(named.values())
        depth = [depths[name] for name in named]
        self._groups = ["embeddings" if d == 0 else f"layer.{d}" for d in depth]
        self._order = [self._groups[i] for i in sorted(range(len(depth)), key=depth.__getitem__)]
        samples = [evenly_spaced(parameter) for parameter in self._parameters]
        self._sizes = [len(sample) for sample in samples]
        self._scales = [p.numel() / n for p, n in zip(self._parameters, self._sizes, strict=True)]
        self._start = torch.cat(samples)
        self._start_norms = self._norms(self._start).tolist()

    def distances(self) -> dict[str, float]:
        """Distance of "embeddings", "layer.1" .. "layer.<n>" and the whole "body", each >= 0."""
        return self._relative(self._moved())

    def check(self) -> dict[str, float]:
        """The distances at the end of training, if they are what the learning rates promise.

        Raises:
            ConfigError: a group with a learning rate has not moved at all.
            OoflineError: a frozen parameter has moved.
        """
        moved = self._moved()
        for parameter, group, norm in zip(self._parameters, self._groups, moved, strict=True):
            if norm != 0 and not parameter.requires_grad:
                raise OoflineError(
                    f"{group} is frozen, but its weights moved: a technique changed them and did "
                    "not put them back, leave techniques out one by one"
                )
        still = self._still(moved)
        if still is not None:
            raise ConfigError(
                f"{still} has a learning rate, but its weights did not move at all: raise its rate "
                "(lr, layer_decay, group_lrs), or freeze it (group_lrs, freeze_layers)"
            )
        return self._relative(moved)

    def _still(self, moved: list[float]) -> str | None:
        """The first group with trained parameters of which none moved."""
        trained: dict[str, float] = {}
        for parameter, group, norm in zip(self._parameters, self._groups, moved, strict=True):
            if parameter.requires_grad:
                trained[group] = trained.get(group, 0.0) + abs(norm)
        return next((group for group, norm in trained.items() if norm == 0), None)

    def _moved(self) -> list[float]:
        """||w - w0|| of every parameter's sample; one read of the device."""
        now = torch.cat([evenly_spaced(parameter) for parameter in self._parameters])
        return self._norms(now - self._start).tolist()

    def _norms(self, values: Tensor) -> Tensor:
        return torch.stack(torch._foreach_norm(list(values.split(self._sizes))))

    def _relative(self, moved: list[float]) -> dict[str, float]:
        groups = [*dict.fromkeys(self._order), "body"]
        start = self._start_norms
        return {g: self._length(moved, g) / max(1e-12, self._length(start, g)) for g in groups}

    def _length(self, norms: list[float], group: str) -> float:
        """Norm of a whole group, each sample standing for all elements of its parameter."""
        parts = zip(self._groups, norms, self._scales, strict=True)
        return math.sqrt(sum(s * n * n for g, n, s in parts if group in (g, "body")))
