"""What is known of a model on a VM type, as numbers that demands and reactions are regressed on."""

from __future__ import annotations

import warnings

import numpy as np

from placer.interference.profiles import Profiles, Vocabulary

CORES = (
    "quota_cores",
    "vcpu",
    "cores",
)  # columns of vm_types.csv that say how many cores there are
SHARE = "share of the cores"
APART = 0.05  # log solo latencies nearer than this tell no two VM types apart


def regressors(vocabulary: Vocabulary, profiles: Profiles) -> tuple[list[str], np.ndarray]:
    """Return the names and the table (K, V, Q), mostly logarithms; NaN where unknown.

    Names that start with "vm " belong to the VM type alone, with "model " to the model alone.
    """
    shape = profiles.solo.shape
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without any known value
        found = solo_columns(vocabulary, profiles)
        for place, name in enumerate(vocabulary.model_numbers):
            values = np.log1p(np.maximum(profiles.numbers[:, [place]], 0.0))
            found[f"model {name}"] = values
            if name == "batch":
                found["solo per item"] = found["solo"] - np.log(profiles.numbers[:, [place]])
    for place, (name, values) in enumerate(vocabulary.model_texts.items()):
        if name != vocabulary.family_column:
            for code, value in enumerate(values):
                found[f"model {name} is {value}"] = profiles.texts[:, [place]] == code
    for place, name in enumerate(vocabulary.vm_numbers):
        found[f"vm {name}"] = np.log1p(np.maximum(profiles.vm_numbers[None, :, place], 0.0))
    for place, (name, values) in enumerate(vocabulary.vm_texts.items()):
        for code, value in enumerate(values):
            found[f"vm {name} is {value}"] = profiles.vm_texts[None, :, place] == code
    table = np.stack([np.broadcast_to(one, shape).astype(float) for one in found.values()], axis=2)
    return list(found), np.where(np.isfinite(table), table, np.nan)


def solo_columns(vocabulary: Vocabulary, profiles: Profiles) -> dict[str, np.ndarray]:
    """Return what the solo runs say, by name, each (K, V)."""
    solo = np.log(profiles.solo)
    elsewhere = np.log(profiles.elsewhere)
    columns = {"solo": solo}
    if "cpu_util" in vocabulary.measured:
        columns["cpu_util"] = np.log(np.maximum(profiles.cpu, 1e-3))
        cores = cores_of(vocabulary, profiles)
        if cores is not None:
            busy = profiles.cpu / profiles.share()  # cores in use while a request is served
            columns[SHARE] = np.log(np.clip(busy / cores, 0.01, 4.0))
    if "memory_mib" in vocabulary.measured:
        columns["memory_mib"] = np.log(np.maximum(profiles.memory, 1e-3))
    if elsewhere.shape[1]:
        best = np.fmin(np.nanmin(elsewhere, axis=1)[:, None], solo)
        columns["saturation"] = solo - best
        slower, faster = slopes(solo, elsewhere)
        columns["gain from the next slower VM"], columns["gain on the next faster VM"] = (
            slower,
            faster,
        )
    for place, name in enumerate(vocabulary.vm_types):
        columns[f"solo on {name}"] = elsewhere[:, [place]] - solo
    return columns


def cores_of(vocabulary: Vocabulary, profiles: Profiles) -> np.ndarray | None:
    """Return the cores (V,) that replicas of a VM share; None where no column says it."""
    places = [vocabulary.vm_numbers.index(name) for name in CORES if name in vocabulary.vm_numbers]
    if not places:
        return None
    found: np.ndarray = np.nanmin(profiles.vm_numbers[:, places], axis=1)
    return found


def slopes(solo: np.ndarray, elsewhere: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much a model gains (K, V) from the next slower VM type and on the next faster.

    1 is as much as the median model, near 0 is a model that does not fill the slower one. `solo`
    (K, V) and `elsewhere` (K, trained VM types) are log latencies.
    """
    slower, faster = np.full(solo.shape, np.nan), np.full(solo.shape, np.nan)
    for vm in range(solo.shape[1]):
        difference = elsewhere - solo[:, [vm]]
        gap = np.nan_to_num(np.nanmedian(difference, axis=0))
        for out, sign in ((slower, 1.0), (faster, -1.0)):
            behind = np.flatnonzero(sign * gap > APART)
            if len(behind):
                near = behind[np.argmin(sign * gap[behind])]
                out[:, vm] = np.clip(difference[:, near] / gap[near], -1.0, 4.0)
    return slower, faster
