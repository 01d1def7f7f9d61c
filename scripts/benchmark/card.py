"""What a card can do: its published peak, and what one large product of matrices reaches."""

from __future__ import annotations

import torch
from measure import duration

# TFLOP/s of dense bfloat16 products, as NVIDIA publishes them; a name that holds another one stands before it
PEAKS = {"H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "H200": 989, "A100": 312, "B200": 2250}


def peak(device: str) -> float | None:
    """Published TFLOP/s of the card in bfloat16, where the script knows it."""
    if not device.startswith("cuda"):
        return None
    card = torch.cuda.get_device_name(device)
    return next((peak for name, peak in PEAKS.items() if name in card), None)


def fastest_product(device: str, dtype: str) -> float:
    """TFLOP/s of one large product of matrices: what is left of the published peak."""
    side = 8192 if device.startswith("cuda") else 256
    left, right = torch.randn(2, side, side, device=device, dtype=getattr(torch, dtype))
    times = [duration(lambda: [left @ right for _ in range(10)], device) for _ in range(4)]
    return 10 * 2 * side**3 / min(times) / 1e12
