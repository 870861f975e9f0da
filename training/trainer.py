"""One worker of a training run: its network, its optimisers, and what one step does.

Knows losses and weights. Knows nothing of processes, clocks and logs of losses, which are `train`'s.
"""

from __future__ import annotations

import logging
import random
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.batches import Pictures, ask, draw_pictures
from training.clicks import click_loss
from training.export import export
from training.geometry_start import start_geometry_encoder
from training.likeness import likeness_loss
from training.losses import Log, detection_loss, scale_loss
from training.muon import Muon, split
from training.network import Network
from training.shapes import Settings
from training.sizes import Sizes, sizes_of
from training.speed import FAST_DTYPE, prepare_for_speed
from training.token_losses import kind_loss, token_loss
from training.warm_start import soften_if_hard, warm_start
from training.wiring import detect, view

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import CLIPTokenizer

log = logging.getLogger("training")


@dataclass(frozen=True)
class Plan:
    """One training run.

    Attributes:
        out: directory for the checkpoint, the state and the log of losses.
        minutes: wall time; the learning rate falls to nothing over it.
        steps: steps per worker, instead of `minutes`, when not None.
        seed: of weights and pictures. One worker on a given number of steps repeats itself exactly; several do not,
            as they average whenever they come by.
        workers: processes of one thread.
        batch: pictures per step; `masked` of them get detection masks, `clicked` of them clicks.
        texts, exemplars: concept prompts per picture.
        objects: clicked and boxed objects per picture.
        rate: Adam's peak learning rate; Muon's is ten times that.
        leak: share of the heads' gradient that reaches the image encoder.
        tokens_only: share of the run, from its start, in which only the image encoder learns, from `token_loss`.
        export_minutes: time between exports.
        init: checkpoint directory to start from; its tokenizer is taken over.
        fresh_exemplars: start the geometry encoder anew.
        compiled: compile the repeated blocks (half a minute at the start, 15 % faster steps).
    """

    out: Path
    minutes: float = 130.0
    steps: int | None = None
    seed: int = 0
    workers: int = 2
    batch: int = 8
    masked: int = 4
    clicked: int = 4
    texts: int = 2
    exemplars: int = 2
    objects: int = 6
    rate: float = 8e-4
    leak: float = 0.3
    tokens_only: float = 0.0
    export_minutes: float = 6.0
    init: Path | None = None
    resume: bool = False
    fresh_exemplars: bool = False
    compiled: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    settings: Settings = field(default_factory=Settings)


class Trainer:
    """One worker: its network, optimisers and running averages."""

    def __init__(self, worker: int, plan: Plan, shared: Tensor | None) -> None:
        self.worker, self.plan, self.shared = worker, plan, shared
        self.network = _start(plan).train()
        prepare_for_speed(self.network, compiled=plan.compiled)
        self.tokenizer = _tokenizer(plan.out)
        self.parameters = _trainable(self.network)
        state = _saved(plan)
        averaged = state["average"] if state and not plan.fresh_exemplars else [p.detach() for p in self.parameters]
        self.average = [value.clone() for value in averaged]
        self.done = float(state["done"]) if state else 0.0
        matrices, tables, vectors = split(self.network)
        self.muon = Muon(matrices, 10 * plan.rate)
        groups = [{"params": tables, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=plan.rate, betas=(0.9, 0.98), foreach=True)
        self.first = int(state["step"]) + 1 if state else 0
        self.steps = 0

    def step(self, done: float) -> Log:
        """One step at `done` of the run, in [0, 1]; returns the losses."""
        plan, number = self.plan, self.first + self.steps
        rng = random.Random(f"{plan.seed} {self.worker} {number}")  # noqa: S311
        torch.manual_seed(rng.getrandbits(60))
        tokens_only = done < plan.tokens_only
        pictures = _pictures(plan, self.network.sizes, self.worker, number, plan.batch * (2 if tokens_only else 1))
        losses: Log = {}
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.bfloat16 == FAST_DTYPE):
            loss = self._encoder_loss(pictures, losses) if tokens_only else self._loss(pictures, rng, losses)
        self._update(loss, done)
        self._exchange()
        self.steps += 1
        return losses | {"loss": float(loss.detach())}

    def _encoder_loss(self, pictures: Pictures, losses: Log) -> Tensor:
        tokens = self.network.detector.vision_encoder.backbone(pictures.pixels).last_hidden_state
        return token_loss(self.network, tokens, pictures, losses)

    def _loss(self, pictures: Pictures, rng: random.Random, losses: Log) -> Tensor:
        plan, network = self.plan, self.network
        views = view(network, pictures.pixels, plan.masked, plan.clicked, plan.leak)
        prompts = ask(rng, self.tokenizer, pictures, plan.texts, plan.exemplars)
        each = plan.texts + plan.exemplars
        masked = torch.tensor([i * each + rng.randrange(each) for i in range(plan.masked)])
        found = detect(network, views.detector, prompts, masked)
        total = token_loss(network, views.tokens, pictures, losses)
        total = total + detection_loss(network, found, pictures, prompts, masked, losses)
        total = total + kind_loss(network, views.detector[-1], pictures, losses)
        total = total + likeness_loss(network, views.detector[-1], pictures, self.tokenizer, 6 * plan.batch, losses)
        total = total + scale_loss([*views.detector[1:], *views.tracker[1:]])
        return total + click_loss(network, views.tracker, _last(pictures, plan.clicked), rng, plan.objects, losses)

    def _update(self, loss: Tensor, done: float) -> None:
        plan = self.plan
        rate = plan.rate * min(1.0, (self.steps + 1) / 10) * max(0.01, 1 - done)
        self.muon.rate = 10 * rate
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.parameters, 5.0, foreach=True)
        self.adam.step()
        self.muon.step()

    @torch.no_grad()
    def _exchange(self) -> None:
        """Meets the other workers half way, every few steps; then adds to the running average."""
        if self.shared is not None and self.steps % 5 == (2 * self.worker) % 5:
            self.shared.lerp_(_flat(self.parameters), 0.5)
            nn.utils.vector_to_parameters(self.shared.clone(), self.parameters)
        if self.worker == 0:
            kept = min(0.997, (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - kept)

    @torch.no_grad()
    def save(self, done: float) -> None:
        """Exports the averaged weights and saves the state to resume from."""
        own = [parameter.detach().clone() for parameter in self.parameters]
        scratch = self.plan.out / "state.tmp"
        state = {"network": self.network.state_dict(), "average": self.average, "done": done}
        state |= {"step": self.first + self.steps, "sizes": asdict(self.network.sizes)}
        torch.save(state, scratch)
        scratch.replace(self.plan.out / "state.pt")
        self._become(self.average)
        export(self.network, self.plan.out)
        self._become(own)

    @torch.no_grad()
    def _become(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def shared_start(plan: Plan) -> Tensor:
    """All weights that learn, in a row, as they are at the start of the run: float [n] in memory shared by workers."""
    return _flat(_trainable(_start(plan))).share_memory_()  # type: ignore[no-any-return, no-untyped-call]


def _start(plan: Plan) -> Network:
    """The network at the start of the run: resumed, taken from a checkpoint, or fresh."""
    sizes = replace(plan.sizes, vocabulary=len(_tokenizer(plan.out)))
    state = _saved(plan)
    if state is not None:
        network = Network(sizes_of(state["sizes"]))
        network.load_state_dict(state["network"])
        return _refreshed(network, plan)
    torch.manual_seed(plan.seed)
    network = Network(sizes)
    if plan.init is not None:
        lost = warm_start(network, plan.init)
        soften_if_hard(network, _pictures(plan, sizes, worker=-1, step=0, count=8).pixels)
        log.info("started from %s; not taken over: %s", plan.init.name, lost or "nothing")
    else:
        network.whiten_patches(_pictures(plan, sizes, worker=-1, step=0, count=64).pixels)
    return _refreshed(network, plan)


def _refreshed(network: Network, plan: Plan) -> Network:
    if plan.fresh_exemplars:
        torch.manual_seed(plan.seed)
        start_geometry_encoder(network.detector.geometry_encoder)
    return network


def _saved(plan: Plan) -> dict[str, Any] | None:
    path = plan.out / "state.pt"
    return torch.load(path, weights_only=True) if plan.resume and path.exists() else None


def _pictures(plan: Plan, sizes: Sizes, worker: int, step: int, count: int) -> Pictures:
    first = ((plan.seed * 64 + worker + 1) * 10_000_000) + step * count
    return draw_pictures(range(first, first + count), plan.settings, sizes.image_px, sizes.low_res)


def _tokenizer(directory: Path) -> CLIPTokenizer:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(directory)


def _trainable(network: Network) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _flat(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def _last(pictures: Pictures, count: int) -> Pictures:
    return Pictures(
        pictures.pixels[-count:],
        pictures.cover[-count:],
        pictures.boxes[-count:],
        pictures.shape[-count:],
        pictures.colour[-count:],
        pictures.attributes[-count:],
    )
