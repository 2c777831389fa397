"""From the window of one optimizer step to its clipped gradient."""

import torch
from torch import nn

from oofline.techniques import Technique
from oofline.training.step import Step


def window_gradients(
    step: Step, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler,
    techniques: list[Technique], parameters: list[nn.Parameter], clip_norm: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Clipped gradient of the window in ``.grad``: what the optimizer's step takes.

    For each micro-batch forward, extra losses and backward; then the gradients of all processes of
    the team are added up, the techniques act on the sum, and it is unscaled and clipped once.

    Args:
        step: the window.
        optimizer: holds the parameters; its gradients are emptied first.
        scaler: loss scaler.
        techniques: hooks, in the order in which they act.
        parameters: all parameters of the optimizer.
        clip_norm: largest gradient norm; 0 = off.

    Returns:
        The window's loss with extra losses, and the gradient norm before clipping: () tensors on
        the device, of the whole window in every process.

    Raises:
        torch.OutOfMemoryError: in every process, if there is too little memory in one of them.
    """
    optimizer.zero_grad(set_to_none=True)
    window_loss = torch.zeros((), device=step.precision.device)
    with step.team.together():
        for _ in step:
            logits, loss = step.forward()
            extras = [t.extra_loss(step, logits, loss) for t in techniques]
            loss = sum((extra for extra in extras if extra is not None), loss)
            step.backward(loss)
            window_loss += loss.detach() * step.share
    step.team.add_up_gradients(parameters, window_loss)
    with step.team.together():
        for technique in techniques:
            technique.after_backward(step)
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm or float("inf"))
    return window_loss, norm
