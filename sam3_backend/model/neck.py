"""The necks as they run: linear layers that follow each other become one, once, after loading.

A neck's finer levels end in a doubling of the side (transposed convolution), a 1 x 1 and a 3 x 3 convolution; the mask
head doubles by repeating pixels and convolves with 3 x 3; the click decoder begins with a 1 x 1 convolution. Nothing
bends between them, so that each chain is one transposed convolution of 4 x 4 with stride 2: the same numbers up to
rounding, for 4 taps a pixel instead of 9 and without the layers in between. Where the chain ends in few channels, as
for clicks, most of the work is gone.

Knows tensors alone; the parameters stay where they are, and keep their names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LAST = torch.channels_last  # a third of the time of the other layout, where CPUs convolve backwards


@dataclass(frozen=True, slots=True)
class Doubling:
    """A linear step from a side of s to one of 2 s.

    Attributes:
        weight: (C_in, C_out, 4, 4).
        bias: (C_out,).
        beyond: (C_out, 3, 3), what each tap of the 3 x 3 convolution adds of the inner layers' bias: not there where
            the tap reaches beyond the border, which is padded with zeros. None without such a bias.
    """

    weight: Tensor
    bias: Tensor
    beyond: Tensor | None = None

    def __call__(self, level: Tensor) -> Tensor:
        """(B, C_in, s, s) to (B, C_out, 2 s, 2 s)."""
        doubled = conv_transpose2d(level.contiguous(memory_format=_LAST), self.weight, self.bias, stride=2, padding=1)
        if self.beyond is not None:
            _take_from_border(doubled, self.beyond)
        return doubled

    @classmethod
    def of_repetition(cls, convolution: Any) -> Doubling:
        """Each pixel repeated as 2 x 2, then a 3 x 3 convolution whose bias is left out."""
        kernel = convolution.weight
        repeat = torch.eye(kernel.shape[1], device=kernel.device)[:, :, None, None].expand(-1, -1, 2, 2)
        weight = _chained(repeat, kernel.float())
        return cls(_placed(weight, kernel.dtype), torch.zeros_like(convolution.bias))

    @classmethod
    def of_level(cls, level: Any, then: Any = None) -> Doubling:
        """The end of one of transformers' ``Sam3FPNLayer``: transposed convolution, ``proj1``, ``proj2``.

        Args:
            level: The layer.
            then: A 1 x 1 convolution behind it.
        """
        double, inner, outer = level.scale_layers[-1], level.proj1, level.proj2
        dtype = outer.weight.dtype
        kernel, bias = outer.weight.float(), outer.bias.float()
        if then is not None:
            last = then.weight.float()[:, :, 0, 0]
            kernel, bias = torch.einsum("so,ofyx->sfyx", last, kernel), last @ bias + then.bias.float()
        narrow = inner.weight.float()[:, :, 0, 0]
        inner_bias = narrow @ double.bias.float() + inner.bias.float()
        beyond = torch.einsum("ofyx,f->oyx", kernel, inner_bias)
        weight = _chained(torch.einsum("imyx,fm->ifyx", double.weight.float(), narrow), kernel)
        return cls(_placed(weight, dtype), (bias + beyond.sum(dim=(1, 2))).to(dtype), beyond.to(dtype))


def pyramid(neck: Any, then: Sequence[Any] = (None, None)) -> tuple[Callable[[Tensor], Tensor], ...]:
    """A neck's three levels, finest first, each from (B, D, g, g) to (B, C, 4g, 4g), (B, C, 2g, 2g), (B, C, g, g).

    Args:
        neck: transformers' ``Sam3VisionNeck``.
        then: 1 x 1 convolutions behind the finer two.
    """
    fine, middle, coarse = neck.fpn_layers[:3]  # the fourth, coarser level serves video alone
    finest = Doubling.of_level(fine, then[0])
    return (lambda seen: finest(_through(fine.scale_layers[:-1], seen)), Doubling.of_level(middle, then[1]), coarse)


def _through(layers: Sequence[Any], level: Tensor) -> Tensor:
    for layer in layers:
        level = layer(level)
    return level


def _chained(double: Tensor, kernel: Tensor) -> Tensor:
    """A transposed convolution of 2 x 2 with stride 2 and a 3 x 3 convolution behind it, in one.

    Args:
        double: (C_in, F, 2, 2).
        kernel: (C_out, F, 3, 3).

    Returns:
        (C_in, C_out, 4, 4), to be used with stride 2 and padding 1.
    """
    turned = kernel.flip(2, 3)  # a transposed convolution scatters where a convolution gathers
    weight = double.new_zeros(double.shape[0], kernel.shape[0], 4, 4)
    for y in range(2):
        for x in range(2):
            weight[:, :, y : y + 3, x : x + 3] += torch.einsum("if,ofyx->ioyx", double[:, :, y, x], turned)
    return weight


def _placed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype).contiguous(memory_format=_LAST)


def _take_from_border(doubled: Tensor, beyond: Tensor) -> None:
    """Take away what taps beyond the border have added, in place."""
    doubled[:, :, 0] -= beyond[:, 0].sum(1)[:, None]
    doubled[:, :, -1] -= beyond[:, 2].sum(1)[:, None]
    doubled[:, :, :, 0] -= beyond[:, :, 0].sum(1)[:, None]
    doubled[:, :, :, -1] -= beyond[:, :, 2].sum(1)[:, None]
    for y, row in ((0, 0), (-1, 2)):
        for x, column in ((0, 0), (-1, 2)):  # a corner's tap was taken twice
            doubled[:, :, y, x] += beyond[:, row, column]
