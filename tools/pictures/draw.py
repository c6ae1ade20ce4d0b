"""Draws pictures by formula: waves, flat parts, edges and noise."""

import numpy as np


def picture(height, width, seed=0):
    """`[height, width, 3]` of 8 bits."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    random = np.random.default_rng(seed * 1_000_003 + height * 1009 + width)
    drawn = np.zeros((height, width, 3))
    for channel in range(3):
        for _ in range(4):
            fx, fy, phase = random.uniform(0.5, 9, 3)
            drawn[..., channel] += np.sin(fx * x / width * 6 + fy * y / height * 6 + phase)
    drawn = (drawn + 4) / 8 * 255
    drawn[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 256, 3)
    noise = random.integers(0, 256, (height, width, 3))
    noisy = (y // 8 + x // 8) % 5 == 0
    drawn[noisy] = noise[noisy] * 0.5 + drawn[noisy] * 0.5
    return drawn.clip(0, 255).astype(np.uint8)
