"""Numbers as blocks of Q4_K and Q6_K: the nearest codes for the range of each group. The library `gguf` reads these and does not write them."""

import numpy as np


def q4_k(numbers):
    """Eight groups of 32 in a block: 6 bits of scale and of least number each."""
    groups = numbers.reshape(-1, 8, 32)
    least = np.minimum(groups.min(-1), 0)
    wide = (groups.max(-1) - least) / 15
    whole = np.stack([wide.max(-1), -least.min(-1)], -1) / 63
    whole = whole.astype(np.float16)
    divisor = np.where(whole == 0, 1, whole).astype(np.float32)
    scales = np.clip(np.rint(wide / divisor[:, :1]), 0, 63).astype(np.uint8)
    lows = np.clip(np.rint(-least / divisor[:, 1:]), 0, 63).astype(np.uint8)
    step = divisor[:, :1] * scales
    codes = (groups + (divisor[:, 1:] * lows)[..., None]) / np.where(step == 0, 1, step)[..., None]
    codes = np.clip(np.rint(codes), 0, 15).astype(np.uint8)
    pairs = codes.reshape(-1, 4, 2, 32)
    halves = (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)
    first = scales[:, :4] | (scales[:, 4:] >> 4) << 6
    second = lows[:, :4] | (lows[:, 4:] >> 4) << 6
    third = scales[:, 4:] & 15 | (lows[:, 4:] & 15) << 4
    blocks = np.concatenate([whole.view(np.uint8), first, second, third, halves], -1)
    return blocks.reshape(*numbers.shape[:-1], -1)


def q6_k(numbers):
    """Sixteen groups of 16 in a block, with scales of 8 bits."""
    groups = numbers.reshape(-1, 16, 16)
    wide = np.abs(groups).max(-1) / 31
    whole = (wide.max(-1, keepdims=True) / 127).astype(np.float16)
    divisor = np.where(whole == 0, 1, whole).astype(np.float32)
    scales = np.clip(np.rint(wide / divisor), 0, 127).astype(np.int8)
    step = divisor * scales
    codes = np.clip(np.rint(groups / np.where(step == 0, 1, step)[..., None]), -32, 31) + 32
    quarters = codes.astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = quarters & 15, quarters >> 4
    halves = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], -1).reshape(-1, 128)
    upper = (high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6).reshape(-1, 64)
    blocks = np.concatenate([halves, upper, scales.view(np.uint8), whole.view(np.uint8)], -1)
    return blocks.reshape(*numbers.shape[:-1], -1)
