import numpy as np
import pytest
import torch

from oofline.data.batches import collate
from oofline.errors import OoflineError
from oofline.training.state import Progress
from oofline.training.step import halve_micro_batch


def full_batch_gradient(parts, rows):
    """Gradient of the mean loss over all rows of a window, in one pass."""
    parts.model.zero_grad(set_to_none=True)
    ids, mask = collate(parts.data.tokens, rows, torch.device("cpu"))
    parts.loss(parts.model(ids, mask), parts.data.labels[torch.from_numpy(rows)]).backward()
    return torch.cat([p.grad.flatten() for p in parts.model.parameters() if p.grad is not None])


@pytest.mark.parametrize("index", [0, 1])
def test_accumulated_gradient_is_that_of_the_whole_window(parts, index):
    # 22 rows, batches of 4, windows of 4 batches: one full, and a short one at the end
    p = parts(accumulation=4)
    step = p.steps.make(index, micro_batch=4)
    assert (len(step.parts), step.n_rows < 16) == [(4, step.n_rows == 14), (2, True)][index]
    wanted = full_batch_gradient(p, np.concatenate(step.parts))
    assert torch.allclose(p.gradient(step), wanted, rtol=1e-4, atol=1e-6)


def test_dividing_a_short_window_by_the_full_length_would_be_caught(parts):
    p = parts(accumulation=4)
    step = p.steps.make(1, micro_batch=4)
    wanted = full_batch_gradient(p, np.concatenate(step.parts))
    faulty = p.gradient(step) * (len(step.parts) / 4)
    assert not torch.allclose(faulty, wanted, rtol=1e-2)


def test_smaller_micro_batches_give_the_same_gradient(parts):
    p = parts(accumulation=2)
    whole = p.gradient(p.steps.make(0, micro_batch=4))
    for micro in (1, 2, 3):
        assert torch.allclose(p.gradient(p.steps.make(0, micro)), whole, rtol=1e-4, atol=1e-6)


def test_windows_cover_each_epoch_once_in_another_order(parts):
    p = parts(accumulation=2)
    per_epoch = 3
    rows = [
        np.concatenate([np.concatenate(p.steps.make(e * per_epoch + i, 4).parts) for i in range(3)])
        for e in (0, 1)
    ]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(22))
    assert rows[0].tolist() != rows[1].tolist()


def test_forward_needs_a_current_micro_batch(parts):
    step = parts().steps.make(0, 4)
    with pytest.raises(RuntimeError, match="outside"):
        step.forward()


def test_fp16_gradients_are_scaled_and_unscale_to_the_true_ones(parts):
    full, half = parts(), parts(precision="fp16")
    true = full.gradient(full.steps.make(0, 4))
    scaled = half.gradient(half.steps.make(0, 4))
    scale = half.scaler.get_scale()
    assert scale > 1
    assert torch.allclose(scaled / scale, true, rtol=0.05, atol=2e-3)


def test_running_out_of_memory_halves_until_one_row(parts):
    p = parts()
    optimizer = torch.optim.SGD(p.model.parameters(), lr=0.1)
    progress = Progress(micro_batch=4)
    for rows in (2, 1):
        halve_micro_batch(progress, p.steps.make(0, progress.micro_batch), optimizer)
        assert progress.micro_batch == rows
    with pytest.raises(OoflineError, match=r"one row per forward pass.*max_len"):
        halve_micro_batch(progress, p.steps.make(0, 1), optimizer)
