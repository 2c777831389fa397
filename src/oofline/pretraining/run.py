"""``oofline pretrain``: masked or causal language modelling on the texts of train and test."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout

from oofline.config import CFG
from oofline.conflicts import check_name
from oofline.data.competition import read_competition
from oofline.data.encoding import Cutting
from oofline.data.tokens import Tokens, tokenize
from oofline.errors import OoflineError
from oofline.models.language_model import LanguageModel, mean_loss, save_network
from oofline.pretraining.corpus import Corpus, read_corpus
from oofline.pretraining.held_out import HeldOut
from oofline.pretraining.start import WORK, Start, make_start
from oofline.progress import bar, say
from oofline.report.perplexity import perplexity_curve
from oofline.storage import Paths, read_json, remove_temporaries, write_json, write_text
from oofline.training.guard import Guard
from oofline.training.keeper import Keeper
from oofline.training.optim import build_optimizer
from oofline.training.plan import Plan, make_plan
from oofline.training.precision import choose_precision
from oofline.training.pulse import Pulse, Reading
from oofline.training.speed import keep_freed_memory
from oofline.training.state import Progress, load_state, save_state
from oofline.training.step import StepMaker, TrainData
from oofline.training.trainer import Trainer

DONE_FILE = "perplexity.json"
"""Written last: its presence means that the pretraining is finished."""
_WHOLE = 1_000_000
"""Windows of a text: none of it is cut."""


def run_pretrain(options: Any, paths: Paths) -> None:
    """``oofline pretrain``: writes output/<comp>/pretrained/<name>, a folder for ``--model``.

    Raises:
        Stopped: time limit or interrupt; the same command goes on from the saved state.
        ConfigError, DataError: settings or inputs are wrong, or not those of the folder.
    """
    cfg: CFG = options.cfg
    name = options.name or ("scratch" if options.from_scratch else Path(cfg.model).name)
    check_name("NAME", name)
    folder = paths.pretrained(name)
    start = make_start(cfg, options.from_scratch, options.vocab, options.seed)
    precision = choose_precision(start.cfg)
    corpus = read_corpus(cfg, read_competition(cfg, paths))
    claim = start.claim(folder, corpus)
    if (folder / DONE_FILE).exists():
        shutil.rmtree(folder / WORK, ignore_errors=True)
        say(f"finished already: {_summary(name, folder)}")
        return
    say(corpus.description)
    guard = Guard(cfg.time_limit_hours)
    keep_freed_memory()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0), guard.signals():
            remove_temporaries(folder / WORK)
            tokenizer, model = start.build(folder, corpus, claim)
            model.to(precision.device)
            tokens = tokenize(
                paths, corpus.texts, tokenizer, Cutting(cfg.max_len, windows=_WHOLE), "texts"
            )
            run = _Run(start, folder, model, tokens, corpus, precision, guard)
            run.train()
            run.write(name, tokenizer)
    except Timeout:
        raise OoflineError(f"another process is pretraining {folder}: wait for it") from None
    except torch.OutOfMemoryError as error:
        raise OoflineError(
            "out of GPU memory: lower batch_size or max_len, set gradient_checkpointing, or take a "
            "smaller model"
        ) from error
    say(_summary(name, folder))


def _summary(name: str, folder: Path) -> str:
    result = read_json(folder / DONE_FILE)
    return (
        f"{name}: perplexity {result['before']:.1f} -> {result['after']:.1f} on "
        f"{result['n_held_out']} held-out texts in {result['minutes']:.1f} min; open "
        f"{folder / 'perplexity.png'}, train with --model {folder}"
    )


class _Run:
    """One pretraining, wired to the training loop."""

    def __init__(
        self, start: Start, folder: Path, model: LanguageModel, tokens: Tokens, corpus: Corpus,
        precision: Any, guard: Guard,
    ) -> None:  # fmt: skip
        self.start, self.folder, self.model, self.guard = start, folder, model, guard
        self.cfg, self.precision, self.corpus = start.cfg, precision, corpus
        self.tokens, owner = tokens.as_windows()
        self.rows = np.flatnonzero(owner >= corpus.n_held_out)
        self.held_out_rows = np.flatnonzero(owner < corpus.n_held_out)
        self.plan: Plan = make_plan(self.cfg, len(self.rows))
        self.plan = replace(self.plan, eval_steps=self.plan.eval_steps | {0})
        self.optimizer = build_optimizer(self.cfg, model)
        self.scaler = precision.scaler()
        progress = Progress(micro_batch=self.cfg.batch_size)
        if self._state.exists():
            progress, _ = load_state(self._state, model, self.optimizer, self.scaler, [])
            say(f"resumed at step {progress.step} of {self.plan.total_steps}")
        self.evaluator = HeldOut(
            model, self.tokens, self.held_out_rows, precision, self.cfg.batch_size, progress,
            self._report,
        )  # fmt: skip

    @property
    def _state(self) -> Path:
        return self.folder / WORK / "state.safetensors"

    def train(self) -> None:
        """Run the loop to its end, or leave with a saved state."""
        nothing = torch.zeros(len(self.tokens))
        steps = StepMaker(
            self.cfg, self.model, mean_loss, self.precision, self.scaler,
            TrainData(self.tokens, nothing, self.rows), self.start.seed,
        )  # fmt: skip
        progress = self.evaluator.progress
        pulse = Pulse(progress, self._show, scaled=self.scaler.is_enabled())
        keeper = Keeper(self.guard, pulse, self._save, self.cfg.save_minutes, "pretraining")
        self.evaluator.between = lambda: keeper.stop_if_out_of_time(0.0)
        with bar("pretrain", self.plan.total_steps, progress.step) as self.bar:
            Trainer(
                self.cfg, self.plan, steps, self.optimizer, self.scaler, [], self.evaluator,
                keeper, pulse, self.bar,
            ).run()  # fmt: skip

    def write(self, name: str, tokenizer: Any) -> None:
        """Write the model and how it went, the mark of a finished run last."""
        history = pd.DataFrame(self.evaluator.progress.history)
        guessed = "next tokens" if self.model.masking is None else "hidden tokens"
        save_network(self.model.backbone, tokenizer, self.folder)
        write_text(self.folder / "history.csv", history.to_csv(index=False))
        perplexity_curve(self.folder / "perplexity.png", history, name, guessed)
        write_json(self.folder / DONE_FILE, {
            "before": float(history["score"].iloc[0]), "after": float(history["score"].iloc[-1]),
            "guessed": guessed, "n_texts": len(self.corpus.texts),
            "n_held_out": self.corpus.n_held_out, "steps": self.evaluator.progress.step,
            "minutes": self.evaluator.progress.seconds / 60,
            "device": str(self.precision.device), "precision": self.precision.name,
        })  # fmt: skip
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def _save(self) -> None:
        save_state(
            self._state, self.evaluator.progress, None, self.model, self.optimizer, self.scaler, []
        )

    def _show(self, reading: Reading) -> None:
        self.bar.advance(0, loss=reading.loss, texts_per_s=reading.samples_per_s)

    def _report(self, row: dict[str, float]) -> None:
        row["epoch"] = row["step"] / self.plan.steps_per_epoch
        trained = f"epoch {row['epoch']:.2f}: train loss {row['train_loss']:.4f}"
        say(
            f"{trained if row['step'] else 'before'}, held-out loss {row['valid_loss']:.4f}, "
            f"perplexity {row['score']:.2f}"
        )
