"""The drift in float64 and plain loops, written from the formulas: what the fast code is held against."""

import math
from types import SimpleNamespace

import numpy as np


def slow_drift(
    generated, positives, negatives=None, negative_weights=None, temperatures=(0.02, 0.05, 0.2), *,
    field="official", kernel="laplace", affinity_floor=0.0, mask_self=True, sinkhorn_iterations=3,
):  # fmt: skip
    """Loss (B,), direction (B, G, D), scale, mean squared force per temperature, value of logkde (B,)."""
    x, y = np.asarray(generated, np.float64), np.asarray(positives, np.float64)
    count, dimensions = x.shape[1:]
    n = x[:, :0] if negatives is None else np.asarray(negatives, np.float64)
    targets = np.concatenate([x, n, y], axis=1)
    weights = np.ones(targets.shape[:2])
    if negative_weights is not None:
        weights[:, count : count + n.shape[1]] = negative_weights
    repelling = count + n.shape[1]
    distances = np.array([
        [[1e-4 if i == j else max(math.dist(a, b), 1e-4) for j, b in enumerate(to)] for i, a in enumerate(of)]
        for of, to in zip(x, targets, strict=True)
    ])  # fmt: skip
    scale = (distances * weights[:, None, :]).mean() / weights.mean()
    unit = max(scale / math.sqrt(dimensions), 1e-3)
    r = distances / max(scale, 1e-3)
    if mask_self:
        r[:, range(count), range(count)] += 100.0
    direction, raw_force, value = np.zeros_like(x), [], np.zeros(len(x))
    for tau in temperatures:
        force = np.zeros_like(x)
        for b in range(len(x)):
            if field in ("official", "sinkhorn"):
                steps = 1 if field == "official" else sinkhorn_iterations
                force[b] = balanced_field(
                    r[b], targets[b] / unit, weights[b], repelling, tau, kernel, affinity_floor, steps
                )
            else:
                force[b], logs = mean_field(
                    r[b], x[b] / unit, targets[b] / unit, weights[b], repelling, tau, kernel, field, mask_self
                )
                value[b] += logs
        raw_force.append((force**2).mean())
        direction += force if field == "logkde" else force / math.sqrt(max(raw_force[-1], 1e-8))
    loss = value if field == "logkde" else (direction**2).mean((1, 2))
    return SimpleNamespace(loss=loss, direction=direction, scale=scale, unit=unit, raw_force=np.array(raw_force))


def kernel_value(r, tau, kernel):
    return math.exp(-r / tau) if kernel == "laplace" else math.exp(-(r**2) / (2 * tau**2))


def balanced_field(r, targets, weights, repelling, tau, kernel, floor, steps):
    matrix = np.array([[kernel_value(value, tau, kernel) for value in row] for row in r])
    for _ in range(steps):
        matrix = np.sqrt(matrix / matrix.sum(1, keepdims=True)) * np.sqrt(matrix / matrix.sum(0, keepdims=True))
    matrix = np.maximum(matrix, math.sqrt(floor)) * weights
    force = np.zeros((len(r), targets.shape[1]))
    for i, row in enumerate(matrix):
        repel, attract = row[:repelling].sum(), row[repelling:].sum()
        for j, affinity in enumerate(row):
            force[i] += affinity * targets[j] * (-attract if j < repelling else repel)
    return force


def mean_field(r, x, targets, weights, repelling, tau, kernel, field, mask_self):
    """The force, and the mean over queries of log mean k#(x, y-) - log mean k#(x, y+)."""
    force, logs = np.zeros_like(x), 0.0
    for i in range(len(x)):
        for sign, js in ((-1, range(repelling)), (1, range(repelling, len(targets)))):
            js = [j for j in js if not (mask_self and j == i and sign < 0)]
            if not js:
                continue
            pull, normaliser, total = np.zeros(x.shape[1]), 0.0, 0.0
            for j in js:
                k = kernel_value(r[i, j], tau, kernel) * weights[j]
                sharp = k * (tau * (r[i, j] + tau) if kernel == "laplace" else tau**2)
                step = targets[j] - x[i]
                if field == "score":
                    step = step / (r[i, j] * tau if kernel == "laplace" else tau**2)
                pull += k * step
                normaliser += {"mmd": weights[j], "score": k}.get(field, sharp)
                total += sharp
            force[i] += sign * pull / normaliser
            logs -= sign * math.log(total / sum(weights[j] for j in js))
    return force, logs / len(x)
