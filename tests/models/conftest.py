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
    """make_task(kind) -> Task with one regression target, two or three classes, two targets or
    labels, or a scale of four steps ("ordinal-<form>")."""
    from oofline.results import Task

    def make(kind):
        if kind.startswith("ordinal"):
            form = kind.partition("-")[2]
            return Task("ordinal", ("target",), tuple("1234"), ("target",), "qwk", "label", form)
        if kind == "multilabel":
            return Task(kind, ("a", "b"), ("0", "1"), ("a", "b"), "roc_auc", "probability")
        if kind == "multi-target":
            return Task(kind, ("a", "b"), (), ("a", "b"), "mcrmse", "value")
        labels = {"binary": ("0", "1"), "multiclass": ("a", "b", "c"), "regression": ()}[kind]
        outputs = labels if kind == "multiclass" else ("target",)
        metric, asks = ("rmse", "value") if kind == "regression" else ("accuracy", "label")
        return Task(kind, ("target",), labels, outputs, metric, asks)

    return make
