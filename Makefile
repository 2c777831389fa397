# Every target is one line that calls `oofline <verb>`; Windows and notebook users type that instead.
PYTHON ?= python3
BIN    := .venv/bin
COMP   ?=
EXP    ?= base
FOLD   ?= all
SEED   ?= 42
ARGS   ?=
EXPS   ?=
NAME   ?=
BASE   ?=
ARMS   ?=
SPACE  ?=
TRIALS ?= 30
PARALLEL ?= 1
ENGINE ?=
MODEL  ?=
GPUS   ?=
TEACHER ?=
MODE   ?= infer
MSG    ?=
RUN_ON = $(if $(ENGINE),--engine "$(ENGINE)")
EXPERIMENT = --comp "$(COMP)" --exp "$(EXP)" $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo download folds lr-find plan train pretrain pseudo oof ensemble predict submission submit ledger kernel kernel-rehearse kernel-push compare ablation tune sync bench bench-engines readme test lint check clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 18

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]" -c constraints.txt
	touch $@

setup: .venv/.installed  ## one virtual environment in .venv, pinned by constraints.txt
demo: setup              ## everything below on demo data, on a CPU, in minutes
	@$(BIN)/oofline demo $(ARGS)
folds: setup             ## COMP=: folds.csv and the leak audit
	@$(BIN)/oofline folds $(EXPERIMENT)
train: setup             ## COMP= EXP= FOLD=all SEED=42,43 ARGS="--lr 3e-5" [ENGINE=ray]
	@$(BIN)/oofline train --fold "$(FOLD)" --seed "$(SEED)" $(RUN_ON) $(EXPERIMENT)
lr-find: setup           ## COMP= EXP=: loss against learning rate, and a suggestion
	@$(BIN)/oofline lr-find $(EXPERIMENT)
plan: setup              ## COMP= EXP= [FOLD= SEED= GPUS=8xA100]: minutes, memory and disk, from a minute of it (ARGS="--trials 30")
	@$(BIN)/oofline plan --fold "$(FOLD)" --seed "$(SEED)" --gpus "$(GPUS)" $(EXPERIMENT)
pretrain: setup          ## COMP= [NAME=] [MODEL=]: adapt a language model to the texts (ARGS=--from-scratch: a new one)
	@$(BIN)/oofline pretrain --comp "$(COMP)" --name "$(NAME)" $(if $(MODEL),--model "$(MODEL)") $(ARGS)
pseudo: setup            ## COMP= TEACHER= [NAME=]: soft pseudo-labels, fold by fold, for --pseudo NAME
	@$(BIN)/oofline pseudo --comp "$(COMP)" --teacher "$(TEACHER)" --name "$(NAME)" $(ARGS)
oof: setup               ## COMP= EXP=: score out of fold, with intervals and pictures
	@$(BIN)/oofline oof $(EXPERIMENT)
ensemble: setup          ## COMP= EXPS=base,awp [NAME=]: cross-fitted blend
	@$(BIN)/oofline ensemble --comp "$(COMP)" --exps "$(EXPS)" --name "$(NAME)" $(ARGS)
predict: setup           ## COMP= EXP= ARGS="--weights DIR": a new test file by stored models
	@$(BIN)/oofline predict $(EXPERIMENT)
submission: setup        ## COMP= EXP=: validated submission.csv (an experiment or an ensemble)
	@$(BIN)/oofline submission $(EXPERIMENT)
kernel-push: setup       ## COMP=: the rehearsed kernel to Kaggle, until it has run (ARGS=--dry-run: only print)
	@$(BIN)/oofline kernel-push --comp "$(COMP)" $(ARGS)
submit: setup            ## COMP= EXP= MSG=: file or kernel output to Kaggle, scored and noted in the ledger
	@$(BIN)/oofline submit --msg "$(MSG)" $(EXPERIMENT)
ledger: setup            ## COMP=: every submission; pending scores are asked for
	@$(BIN)/oofline ledger --comp "$(COMP)" $(ARGS)
download: setup          ## COMP=<name on Kaggle>: the competition's files into input/
	@$(BIN)/oofline download --comp "$(COMP)" $(ARGS)
compare: setup           ## COMP= [BASE=]: every experiment in one table, with paired intervals; the ledger
	@$(BIN)/oofline compare --comp "$(COMP)" --base "$(BASE)" $(ARGS)
ablation: setup          ## COMP= ARMS=base,awp,fgm FOLD= SEED= [NAME=]: what each setting is worth
	@$(BIN)/oofline ablation --comp "$(COMP)" --arms "$(ARMS)" --seed "$(SEED)" --fold "$(FOLD)" --name "$(NAME)" $(RUN_ON) $(ARGS)
tune: setup              ## COMP= EXP= TRIALS=30 PARALLEL=3 SPACE="lr=log(5e-6,5e-4)" [NAME=]: the best values, and what they are worth
	@$(BIN)/oofline tune --trials "$(TRIALS)" --parallel "$(PARALLEL)" --space "$(SPACE)" --name "$(NAME)" --seed "$(SEED)" --fold "$(FOLD)" $(RUN_ON) $(EXPERIMENT)
kernel: setup            ## COMP= EXP= [MODE=train]: wheels, weights and notebook for Kaggle, with a manifest
	@$(BIN)/oofline kernel --mode "$(MODE)" $(EXPERIMENT)
kernel-rehearse: setup   ## COMP= EXP=: that very notebook, offline, as Kaggle would run it
	@$(BIN)/oofline kernel-rehearse $(EXPERIMENT)
sync: setup              ## COMP=: upload runs that were tracked offline
	@$(BIN)/oofline sync --comp "$(COMP)" $(ARGS)
bench: setup             ## speed and memory against other loops, side by side
	@$(BIN)/python tests/bench/run.py $(ARGS)
bench-engines: setup     ## what handing out a unit costs (local, Ray, 100 simulated nodes), what two processes gain
	@$(BIN)/python tests/bench/engines.py $(ARGS)
readme: setup            ## write the README's tables from the code
	@$(BIN)/python tests/readme_table.py
test: setup              ## the whole suite, without network
	@$(BIN)/python -m pytest $(ARGS)
lint: setup              ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
check: lint test         ## what decides whether a change lands
clean:                   ## remove caches; never input/ or output/
	@rm -rf .mypy_cache .ruff_cache .pytest_cache build dist
