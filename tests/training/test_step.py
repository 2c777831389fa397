import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.data.batches import collate
from oofline.data.tokens import Cutting, tokenize
from oofline.errors import OoflineError
from oofline.models.losses import build_loss
from oofline.models.text_model import build_model
from oofline.results import Task
from oofline.storage import Paths
from oofline.training.precision import Precision
from oofline.training.predict import predict
from oofline.training.state import Progress
from oofline.training.step import StepMaker, TrainData, halve_micro_batch


def full_batch_gradient(parts, rows):
    """Gradient of the mean loss over all rows of a window, in one pass."""
    parts.model.zero_grad(set_to_none=True)
    ids, mask, *_ = collate(parts.data.tokens, rows, torch.device("cpu"))
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


class Swapped:
    """A fold of pairs whose tokens hold both orders."""

    def __init__(self, folder, model, **settings):
        rng = np.random.default_rng(0)
        words = ["a", "good", "bad", "fire", "the"]
        self.pairs = [tuple(" ".join(rng.choice(words, k)) for k in (3, 6)) for _ in range(20)]
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        cutting = Cutting(24, both_orders=True)
        tokens = tokenize(Paths("c", folder), self.pairs, self.tokenizer, cutting, "train")
        y = np.arange(20) % 2
        cfg = CFG(comp="c", model=str(model), batch_size=4, max_len=24, **settings)
        task = Task("binary", ("y",), ("0", "1"), ("y",), "f1", "label")
        self.model, self.loss = build_model(cfg, task, y), build_loss(cfg, task, y)
        self.labels = torch.from_numpy(y)
        self.kind = Precision(torch.device("cpu"), "fp32")
        data = TrainData(tokens, self.labels, np.arange(20))
        self.steps = StepMaker(cfg, self.model, self.loss, self.kind, self.kind.scaler(), data, 1)

    def read(self, epoch, micro=4):
        """row -> token ids that the epoch reads, and the labels that go with them."""
        seen = {}
        for index in range(5):
            step = self.steps.make(5 * epoch + index, micro)
            for part, _ in zip(step.parts, step, strict=True):
                batch, labels = step._current()
                assert labels.tolist() == self.labels[part].tolist()
                for row, ids in zip(part.tolist(), batch.input_ids.tolist(), strict=True):
                    seen[row] = [i for i in ids if i != self.tokenizer.pad_token_id]
        return seen


@pytest.fixture
def swapped(tmp_path, tiny_model):
    return Swapped(tmp_path, tiny_model("bert"), pair_swap="train")


def test_each_epoch_draws_the_order_of_every_pair(swapped):
    orders = [
        [swapped.tokenizer(a, b)["input_ids"], swapped.tokenizer(b, a)["input_ids"]]
        for a, b in swapped.pairs
    ]
    drawn = []
    for epoch in range(3):
        seen = swapped.read(epoch)
        assert sorted(seen) == list(range(20))
        drawn.append([orders[row].index(seen[row]) for row in range(20)])
        assert 3 <= sum(drawn[-1]) <= 17
    assert drawn[0] != drawn[1] != drawn[2]


def test_the_order_depends_on_seed_and_epoch_alone(swapped):
    assert swapped.read(1) == swapped.read(1, micro=1)
    swapped.read(0)
    again = swapped.read(1, micro=3)
    assert again == swapped.read(1)


def test_both_orders_are_averaged_in_prediction(swapped):
    tokens, rows = swapped.steps.data.tokens, np.array([7, 2, 11])
    one = predict(swapped.model, tokens, rows, swapped.kind, 2, swapped.labels, swapped.loss)
    other = predict(swapped.model, tokens, rows + 20, swapped.kind, 2)
    both = predict(
        swapped.model, tokens, rows, swapped.kind, 2, swapped.labels, swapped.loss, orders=2
    )
    assert both.pred == pytest.approx((one.pred + other.pred) / 2, abs=1e-6)
    assert np.abs(one.pred - other.pred).max() > 1e-6
    turned = predict(
        swapped.model, tokens, rows + 20, swapped.kind, 2, swapped.labels, swapped.loss
    )
    assert both.loss == pytest.approx((one.loss + turned.loss) / 2, abs=1e-6)
