"""Muon: momentum with orthogonalised updates for the hidden matrices (K. Jordan et al., 2024).

Knows parameters and gradients only.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from training.speed import FAST_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterable

_STEPS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration, from the reference implementation."""


class Muon:
    """Steps a set of matrices (convolution kernels count as matrices of their output channels).

    Attributes:
        rate: learning rate of the next step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, momentum: float = 0.95, decay: float = 0.01
    ) -> None:
        self.rate, self._momentum, self._decay = rate, momentum, decay
        groups: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for parameter in parameters:
            groups[parameter.shape[0], parameter[0].numel()].append(parameter)
        self._groups = [(shape, held, torch.zeros(len(held), *shape)) for shape, held in groups.items()]

    @torch.no_grad()
    def step(self) -> None:
        """One update of every matrix that has a gradient."""
        for (rows, columns), parameters, memory in self._groups:
            active = [i for i, parameter in enumerate(parameters) if parameter.grad is not None]
            if not active:
                continue
            gradient = torch.stack([parameters[i].grad.reshape(rows, columns) for i in active])  # type: ignore[union-attr]
            memory[active] = memory[active].lerp(gradient, 1 - self._momentum)
            update = orthogonalised(gradient.lerp(memory[active], self._momentum))
            scale = self.rate * max(1.0, rows / columns) ** 0.5
            for i, change in zip(active, update, strict=True):
                parameters[i].mul_(1 - self.rate * self._decay)
                parameters[i].add_(change.reshape(parameters[i].shape), alpha=-scale)


def orthogonalised(matrices: Tensor) -> Tensor:
    """[N, R, C] with all singular values moved near 1."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(FAST_DTYPE)
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    restored: Tensor = x.transpose(1, 2) if tall else x
    return restored.float()


def split(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters as (matrices for Muon, other tables and kernels, vectors)."""
    matrices: dict[int, nn.Parameter] = {}
    for part in module.modules():
        if isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.kernel_size[0] <= 7):
            weight = part.weight
            if weight.requires_grad and min(weight.shape[0], weight[0].numel()) >= 16:
                matrices[id(weight)] = weight
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in matrices]
    return list(matrices.values()), [p for p in rest if p.dim() > 1], [p for p in rest if p.dim() <= 1]
