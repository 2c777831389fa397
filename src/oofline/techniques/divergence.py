"""How far two predictions of the same rows are apart, by kind of task."""

from torch import Tensor

from oofline.errors import ConfigError
from oofline.tasks import Link


def divergence(first: Tensor, second: Tensor, link: Link) -> Tensor:
    """Symmetric divergence of two sets of logits; 0 where they predict the same.

    - softmax, expected, span (classes, steps of a scale, positions in a context):
      D = 1/2 (KL(p||q) + KL(q||p)) of p = softmax(first), q = softmax(second); summed over the T
      classes (positions: for starts and for ends, and the mean of the two).
    - sigmoid, corn (binary, several labels, conditional steps): the same of the two Bernoulli
      distributions of each logit; summed over the T logits. (A softmax over one logit is always
      1, so its KL would always be 0.)
    - identity, with any number of targets: squared difference; mean over the T outputs.

    Each is then the mean over B rows and S dropout samples. The two KL divergences add up to
    sum (p - q)(log p - log q). For a Bernoulli pair that is (p - q)(first - second), without any
    logarithm, so logits of any size are safe.

    Args:
        first: (S, B, T) logits of any float type; computed in float32. (S, B, 2, G) for spans.
        second: logits of the same shape.
        link: what the logits mean, as in `oofline.results.Task`.

    Returns:
        () float32, at least 0; differentiable in both arguments.

    Raises:
        ConfigError: "softmax" with one logit, where the divergence is always 0.
    """
    first, second = first.float(), second.float()
    if link == "identity":
        return (first - second).square().mean()
    if link in ("sigmoid", "corn"):
        return ((first.sigmoid() - second.sigmoid()) * (first - second)).sum(-1).mean() / 2
    if first.shape[-1] == 1 and link != "span":
        raise ConfigError(
            "a divergence between softmaxes over one logit is always 0: a multiclass task needs "
            "two outputs or more"
        )
    log_p, log_q = first.log_softmax(-1), second.log_softmax(-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
