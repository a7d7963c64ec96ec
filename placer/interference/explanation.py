"""Why a prediction is what it is: factors, in words, that multiply to the slowdown."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from placer.interference.contention import form, utilisation
from placer.interference.features import build
from placer.interference.forms import Ready
from placer.interference.profiles import Rows

SENSITIVITY = "the target's sensitivity"
QUEUEING = "queueing at the target's request rate"
LEAST = "no slowdown below 1"
SMALL = 0.01  # factors nearer to 1 than this are told together in a text
REST = "the rest"


def explain_rows(ready: Ready, rows: Rows, names: list[str]) -> list[dict[str, float]]:
    """Return for each row the factor of each driver; their product is the predicted slowdown.

    `names` (K,) are the kinds in words. What the co-runners demand of the VM comes first, as it
    would slow a target of usual sensitivity down; then the target's own sensitivity and queueing;
    then the trees' corrections ("learned: ..."), as Shapley values; then those of the second form
    ("by likeness: ..."). The logarithms of each form count as far as it is followed.
    """
    rows, _ = ready.told(rows)
    first, second = by_contention(ready, rows, names), by_likeness(ready, rows)
    found = []
    for one, other, share in zip(first, second, ready.share(rows), strict=True):
        logs: defaultdict[str, float] = defaultdict(float)
        for part, weight in ((one, 1.0 - share), (other, share)):
            for name, value in part.items():
                logs[name] += weight * value
        found.append({name: float(np.exp(value)) for name, value in logs.items() if value != 0.0})
    return found


def by_contention(ready: Ready, rows: Rows, names: list[str]) -> list[dict[str, float]]:
    """Return for each row the logarithms of the first form's drivers."""
    columns, terms = build(ready.first, rows)
    demands, values = ready.first.demands, ready.first.contention.globals()
    present = rows.co >= 0
    usual = np.where(present, demands.demand[rows.co, rows.vm[:, None]], 0.0)
    usual *= np.exp(values["reaction"])
    load = utilisation(ready.profiles, rows)
    crowding, light, _, _ = form(terms.own, usual.sum(axis=1), load, values)
    by_trees = ready.forms.trees.contributions(columns.matrix())
    found: list[dict[str, float]] = []
    for row in range(len(rows.target)):
        logs: defaultdict[str, float] = defaultdict(float)
        share = usual[row] / max(usual[row].sum(), 1e-12)
        for place in np.flatnonzero(present[row]):
            name = f"demand of {names[rows.co[row, place]]}"
            logs[name] += float((crowding[row] + light[row]) * share[place])
        actual = terms.crowding[row] + terms.light[row]
        logs[SENSITIVITY] += float(actual - crowding[row] - light[row])
        logs[QUEUEING] += float(terms.log()[row] - actual)
        for driver, value in zip([*columns.drivers, "overall"], by_trees[row], strict=True):
            logs[f"learned: {driver}"] += float(value)
        total = sum(logs.values())
        if total < 0.0:
            logs[LEAST] -= total
        found.append(logs)
    return found


def by_likeness(ready: Ready, rows: Rows) -> list[dict[str, float]]:
    """Return for each row the logarithms of the second form's drivers."""
    columns = ready.plain.columns(rows)
    parts = ready.forms.excess.contributions(columns.matrix(), rows.degree())
    found: list[dict[str, float]] = []
    for row in parts:
        logs: defaultdict[str, float] = defaultdict(float)
        for driver, value in zip([*columns.drivers, "degree"], row, strict=True):
            logs[f"by likeness: {driver}"] += float(value)
        found.append(logs)
    return found


def in_words(factors: dict[str, float]) -> str:
    """Return factors as one line, the strongest first, the small ones together as the rest."""
    strong = {n: f for n, f in factors.items() if abs(np.log(f)) >= SMALL}
    rest = float(np.prod([f for n, f in factors.items() if n not in strong]))
    order = sorted(strong, key=lambda name: -abs(np.log(strong[name])))
    parts = [f"{name} x{strong[name]:.3f}" for name in order]
    return "; ".join([*parts, f"{REST} x{rest:.3f}"])
