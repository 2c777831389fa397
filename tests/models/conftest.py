import pytest
import torch


@pytest.fixture
def batch():
    """(input_ids, attention_mask): 3 rows of 12, 7 and 4 tokens, padded to 12."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 60, (3, 12), generator=generator)
    mask = (torch.arange(12) < torch.tensor([[12], [7], [4]])).long()
    return ids * mask, mask


@pytest.fixture
def make_task():
    """make_task(kind) -> Task with one regression target, two or three classes."""
    from oofline.results import Task

    def make(kind):
        labels = {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[kind]
        outputs = labels if kind == "multiclass" else ("target",)
        metric, asks = ("rmse", "value") if kind == "regression" else ("accuracy", "label")
        return Task(kind, ("target",), labels, outputs, metric, asks)

    return make
