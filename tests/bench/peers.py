"""One training epoch as others write it, through their public interfaces.

Every function trains the same model on the same rows with the same batch size, and calls
``on_step(rows)`` after each optimizer step: the caller holds the clock.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)


@dataclass(frozen=True)
class Job:
    """What is trained: texts, targets, a model folder, and the sizes."""

    texts: list[str]
    targets: list[float]
    model: str
    batch_size: int
    max_len: int
    lr: float
    folder: str
    precision: str


def _model(job: Job) -> nn.Module:
    return AutoModelForSequenceClassification.from_pretrained(
        job.model, num_labels=1, problem_type="regression", dtype=torch.float32,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip


def plain_loop(job: Job, on_step) -> None:
    """The tutorial's loop: every row padded to max_len, float32, AdamW."""
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = _model(job).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=job.lr)
    encoded = tokenizer(
        job.texts, truncation=True, max_length=job.max_len, padding="max_length",
        return_tensors="pt",
    )  # fmt: skip
    rows = list(zip(encoded["input_ids"], encoded["attention_mask"], job.targets, strict=True))
    for ids, mask, target in DataLoader(rows, batch_size=job.batch_size, shuffle=True):
        labels = target.float().to(device)
        loss = model(ids.to(device), mask.to(device), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(len(ids))


class _Clock(TrainerCallback):
    def __init__(self, on_step, rows: int, batch_size: int) -> None:
        self.on_step, self.left, self.size = on_step, rows, batch_size

    def on_step_end(self, args, state, control, **kwargs):
        taken = min(self.size, self.left)
        self.left -= taken
        self.on_step(taken)


def hf_trainer(job: Job, on_step) -> None:
    """The Hugging Face Trainer at its best flags: bf16 or fp16, length grouping, fused AdamW."""
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    encoded = tokenizer(job.texts, truncation=True, max_length=job.max_len)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": target}
        for ids, mask, target in zip(
            encoded["input_ids"], encoded["attention_mask"], job.targets, strict=True
        )
    ]
    arguments = TrainingArguments(
        output_dir=job.folder, per_device_train_batch_size=job.batch_size, num_train_epochs=1,
        bf16=job.precision == "bf16", fp16=job.precision == "fp16",
        train_sampling_strategy="group_by_length", optim="adamw_torch_fused",
        learning_rate=job.lr, max_grad_norm=1.0, report_to=[], save_strategy="no",
        logging_steps=10, disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    collator = DataCollatorWithPadding(tokenizer)
    Trainer(
        _model(job), arguments, train_dataset=rows, data_collator=collator,
        callbacks=[_Clock(on_step, len(rows), job.batch_size)],
    ).train()  # fmt: skip
