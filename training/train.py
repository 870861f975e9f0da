"""Trains the demo checkpoint on a CPU: `python -m training.train --out DIR --minutes 130 [--init CHECKPOINT]`.

Single-thread workers each draw their own pictures, take their own steps and average their weights through shared
memory without waiting for each other. Every few minutes the averaged weights are exported to DIR as a usable
checkpoint, and the state is saved, from which `--resume` goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from training import words
from training.trainer import Plan, Trainer, shared_start

log = logging.getLogger("training")


def train(plan: Plan) -> None:
    """Runs the plan; returns when every worker is done and the final checkpoint is in `plan.out`."""
    plan.out.mkdir(parents=True, exist_ok=True)
    _save_tokenizer(plan)
    if plan.workers == 1:
        _work(0, plan, None)
        return
    torch.manual_seed(plan.seed)
    spawn(_work, (plan, shared_start(plan)), nprocs=plan.workers)  # type: ignore[no-untyped-call]


def _save_tokenizer(plan: Plan) -> None:
    if plan.resume and (plan.out / "tokenizer.json").exists():
        return
    if plan.init is None:
        words.build_tokenizer(plan.out)
        return
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(plan.init / name, plan.out / name)


def _work(worker: int, plan: Plan, shared: Tensor | None) -> None:
    """A worker process: steps until the time is up or SIGTERM comes; worker 0 also logs, saves and exports."""
    told_to_stop = threading.Event()
    if shared is not None:
        signal.signal(signal.SIGTERM, lambda *_: told_to_stop.set())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    torch.set_num_threads(1)
    trainer = Trainer(worker, plan, shared)
    before, start = trainer.done, time.monotonic()
    saved, sums = start, defaultdict(list)
    done = before
    while done < 1 and not told_to_stop.is_set():
        for name, value in trainer.step(done).items():
            sums[name].append(value)
        now = time.monotonic()
        by_time = before + (now - start) / (60 * plan.minutes)
        done = by_time if plan.steps is None else trainer.steps / plan.steps
        if worker == 0 and trainer.steps % 25 == 0:
            _report(plan, trainer, (now - start) / 60, sums)
        if worker == 0 and now - saved > 60 * plan.export_minutes:
            trainer.save(done)
            saved = now
    if worker == 0:
        trainer.save(min(1.0, done))


def _report(plan: Plan, trainer: Trainer, minutes: float, sums: dict[str, list[float]]) -> None:
    means = {name: round(sum(values) / len(values), 4) for name, values in sums.items()}
    sums.clear()
    seen = trainer.steps * plan.batch / max(minutes, 1e-6) / 60
    line = {"minutes": round(minutes, 2), "step": trainer.first + trainer.steps, "pictures_s": round(seen, 2), **means}
    log.info(" ".join(f"{name}={value}" for name, value in line.items()))
    with (plan.out / "losses.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory for checkpoint, state and losses")
    parser.add_argument("--init", type=Path, help="checkpoint directory to start from (default: from scratch)")
    parser.add_argument("--resume", action="store_true", help="go on from the state saved in --out")
    parser.add_argument("--fresh-exemplars", action="store_true", help="start the geometry encoder anew")
    parser.add_argument("--compiled", action="store_true", help="compile the repeated blocks")
    defaults = Plan(Path())
    for name, kind in (("minutes", float), ("seed", int), ("workers", int), ("batch", int), ("masked", int)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(defaults, name))
    for name, kind in (("clicked", int), ("texts", int), ("exemplars", int), ("objects", int), ("rate", float)):
        parser.add_argument(f"--{name}", type=kind, default=getattr(defaults, name))
    parser.add_argument("--leak", type=float, default=defaults.leak)
    parser.add_argument("--tokens-only", type=float, default=None, help="share of the run (default: 0.1 from scratch)")
    parser.add_argument("--export-minutes", type=float, default=defaults.export_minutes)
    parser.add_argument("--steps", type=int, help="steps per worker, instead of --minutes")
    arguments = vars(parser.parse_args())
    if arguments["tokens_only"] is None:
        arguments["tokens_only"] = 0.0 if arguments["init"] or arguments["resume"] else 0.1
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(Plan(**arguments))


if __name__ == "__main__":
    main()
