"""The packed forms of a weight [N, K]: fp8, and those of native/linear.cpp and quantized_linear.cpp (see linear.h).

Whole-number weights are symmetric: w ≈ q * scale, one scale for each feature and group of inputs. The scale is the
group's largest weight over the largest q, rounded up to bfloat16, so that no weight is cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FEATURES = 32
"""Output features that are packed side by side."""
FEATURES_AT_ONCE = 1024
"""So many are quantized at a time: what that needs in float32 stays small beside the weights."""
LEAST_SCALE = 1e-30


@dataclass(frozen=True, slots=True)
class WholeNumbers:
    """Weights as whole numbers from -`most` to `most`, in groups of `group` inputs, stored as q + `zero`."""

    name: str
    group: int
    most: int
    zero: int
    code: int
    """WeightForm in native/linear.h."""

    def pack(self, weight: Tensor) -> Tensor:
        """[N, K] → bytes [N/32, K/group, …], N and K to the next multiples of 32 and `group`."""
        padded = F.pad(weight, (0, -weight.shape[1] % self.group, 0, -weight.shape[0] % FEATURES))
        return torch.cat([self._pack_features(piece) for piece in torch.split(padded, FEATURES_AT_ONCE)])

    def quantize(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """[N, K] → whole numbers [N, K/group, group] in float32 and scales [N, K/group] in bfloat16."""
        groups = weight.float().reshape(weight.shape[0], -1, self.group)
        scales = _bfloat16_not_below(groups.abs().amax(-1) / self.most)
        return (groups / scales.float()[..., None]).round_(), scales

    def rounded(self, weight: Tensor) -> Tensor:
        """What the packed weight stands for, [N, K] in float32."""
        numbers, scales = self.quantize(F.pad(weight, (0, -weight.shape[1] % self.group)))
        return (numbers * scales.float()[..., None]).flatten(1)[:, : weight.shape[1]]

    def _pack_features(self, weight: Tensor) -> Tensor:
        numbers, scales = self.quantize(weight)
        stored = numbers.add_(self.zero).to(torch.uint8)
        # [N/32, 32, K/group, steps, halves, 4] → [N/32, K/group, steps, 32, 4]: VPDPBUSD takes fours
        halves = 2 if self.most < 8 else 1
        fours = stored.view(-1, FEATURES, stored.shape[1], self.group // (4 * halves), halves, 4)
        if halves == 2:
            fours = fours[..., :1, :] | fours[..., 1:, :] << 4
        packed = fours.squeeze(4).permute(0, 2, 3, 1, 4).flatten(2)
        sides = scales.view(-1, FEATURES, scales.shape[1]).transpose(1, 2).contiguous().view(torch.uint8)
        return torch.cat([sides, packed], dim=2)


@dataclass(frozen=True, slots=True)
class Bfloat16:
    """Weights as they are; K is even."""

    name: str = "bfloat16"
    code: int = 0

    def pack(self, weight: Tensor) -> Tensor:
        """[N, K] → [N/32, K/2, 32] pairs, N to the next multiple of 32."""
        missing = -weight.shape[0] % FEATURES
        padded = F.pad(weight, (0, 0, 0, missing)) if missing else weight  # padding by nothing copies
        pairs = padded.contiguous().view(torch.int32).view(-1, FEATURES, weight.shape[1] // 2)
        return pairs.transpose(1, 2).contiguous()

    def rounded(self, weight: Tensor) -> Tensor:
        """What the packed weight stands for, [N, K] in float32."""
        return weight.bfloat16().float()


@dataclass(frozen=True, slots=True)
class Fp8:
    """Rows of 8-bit floats (e4m3) with a scale each, on GPUs."""

    name: str = "fp8"
    largest: float = 448.0

    def rows(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, K] ≈ q * scale: q [T, K] float8_e4m3fn, scale [T, 1] float32."""
        scales = (x.float().abs().amax(-1, keepdim=True) / self.largest).clamp_min(1e-12)
        return (x.float() / scales).clamp(-self.largest, self.largest).to(torch.float8_e4m3fn), scales

    def pack(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """[N, K] → [N, K] float8_e4m3fn and scales [N] float32."""
        pieces = [self.rows(piece) for piece in torch.split(weight, FEATURES_AT_ONCE)]
        return torch.cat([rows for rows, _ in pieces]), torch.cat([scales[:, 0] for _, scales in pieces])

    def rounded(self, weight: Tensor) -> Tensor:
        """What the packed weight stands for, [N, K] in float32."""
        numbers, scales = self.pack(weight)
        return numbers.float() * scales[:, None]


CpuForm = Bfloat16 | WholeNumbers
WeightForm = CpuForm | Fp8
BFLOAT16 = Bfloat16()
INT8 = WholeNumbers("int8", group=64, most=127, zero=128, code=1)
FP8 = Fp8()
INT4 = WholeNumbers("int4", group=32, most=7, zero=8, code=2)


def _bfloat16_not_below(values: Tensor) -> Tensor:
    rounded = values.clamp_min(LEAST_SCALE).bfloat16()
    return torch.where(rounded.float() < values, (values * (1 + 2**-8)).bfloat16(), rounded)
