"""Prints which of equal values torch's topk selects: the cases of the test in sli-engine's mixers/top_keys.rs."""

import math

import torch


def numbers(seed, count):
    state, found = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        found.append(math.fmod(float(torch.tensor(float(state >> 33), dtype=torch.float32)), math.floor(count / 3)))
    return found


for seed, count, k in [(1, 9, 8), (2, 20, 8), (3, 41, 8), (4, 41, 5), (5, 100, 16), (6, 257, 40), (7, 600, 5), (8, 330, 5), (9, 64, 1)]:
    chosen = torch.topk(torch.tensor(numbers(seed, count)).view(1, 1, count), k, dim=-1, sorted=False).indices.flatten()
    print(f"        assert_eq!(chosen({seed}, {count}, {k}), {sorted(chosen.tolist())});")
