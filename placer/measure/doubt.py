"""Which groups lower the doubt about all slowdowns most, for each second of measuring.

Doubt is a covariance of the log slowdowns of all members of all groups that could be measured.
How large it is at a member comes from the disagreement of predictors (query by committee, Seung
et al., COLT 1992) and, since predictors can agree and all be wrong, from how little was measured
that shares VM type and degree, target, co-runners or pairs with it. Groups are taken one after
another, each time the one that lowers the mean variance over all members most (Cohn et al.,
"Active Learning with Statistical Models", JAIR 1996), so that a batch does not ask the same
question twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from placer.measure.dataset import Group

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NOISE = 0.05  # relative error of one measured slowdown that no further run would explain
UNKNOWN = 0.3  # relative error of a slowdown of which nothing is known
MOST_KNOWN = 500  # measured groups that are weighed, the latest; predictors have seen all
# How much of an overhead's doubt belongs to what members share; the squares are added up.
TOGETHER, TARGET, TARGET_VM, RATE = 0.45, 0.4, 0.35, 0.25
CO_RUNNER, CO_RUNNER_VM, PAIR, PAIR_VM, OWN = 0.4, 0.35, 0.4, 0.25, 0.3


def targets(groups: Sequence[Group]) -> np.ndarray:
    """Return which members count, bool (groups, width): each model at a rate once in a group.

    Members stand in the order of `Group.key`; there are none in the padding at the end.
    """
    width = max((len(group.models) for group in groups), default=0)
    mask = np.zeros((len(groups), width), dtype=bool)
    for place, group in enumerate(groups):
        members = group.key[1]
        for at, member in enumerate(members):
            mask[place, at] = at == 0 or member != members[at - 1]
    return mask


def shared_effects(groups: Sequence[Group]) -> csr_matrix:
    """Return for each target (row) how much of each effect (column) it has, unit length."""
    from scipy.sparse import csr_matrix

    columns: dict[object, int] = {}
    data: list[float] = []
    column: list[int] = []
    ends = [0]
    for group, mask in zip(groups, targets(groups), strict=True):
        for place in np.flatnonzero(mask):
            row = effects_of(group, int(place))
            length = sum(value**2 for value in row.values()) ** 0.5
            data.extend(value / length for value in row.values())
            column.extend(columns.setdefault(name, len(columns)) for name in row)
            ends.append(len(data))
    return csr_matrix((data, column, ends), shape=(len(ends) - 1, len(columns)))


def effects_of(group: Group, place: int) -> dict[object, float]:
    """Return the effects that the overhead of one member is made of, with their sizes."""
    vm, members = group.key
    model, rate = members[place]
    others = [*members[:place], *members[place + 1 :]]
    row: dict[object, float] = {
        ("together", vm, len(members)): TOGETHER,
        ("target", model): TARGET,
        ("target", model, vm): TARGET_VM,
        ("own", vm, members, place): OWN,
    }
    if rate is not None:
        row["rate", model, rate] = RATE
    for other, other_rate in others:
        for name, size in (
            (("co-runner", other), CO_RUNNER),
            (("co-runner", other, vm), CO_RUNNER_VM),
            (("pair", model, other), PAIR),
            (("pair", model, other, vm), PAIR_VM),
            (("co-runner's rate", other, other_rate), 0.0 if other_rate is None else RATE),
        ):
            row[name] = row.get(name, 0.0) + size / len(others)
    return row


def disagreement(groups: Sequence[Group], predicted: np.ndarray | None) -> np.ndarray:
    """Return the spread of the predicted slowdowns of each group's members, a share (groups,).

    `predicted` (committee, groups, width) are slowdowns as from a committee; 0 where it is None.
    """
    if predicted is None:
        return np.zeros(len(groups))
    mask = targets(groups)
    spread = np.where(mask, np.log(np.where(mask, predicted, 1.0)).std(axis=0, ddof=1), 0.0)
    return spread.sum(axis=1) / np.maximum(mask.sum(axis=1), 1)


def doubt_of(
    groups: Sequence[Group], known: Sequence[Group], predicted: np.ndarray | None
) -> np.ndarray:
    """Return the covariance (n, n) of the log slowdowns of the targets of `groups`.

    `known` are the groups measured already; `predicted` (committee, groups, width) the slowdowns
    that predictors give, None where there are none yet.
    """
    mask = targets(groups)
    effects = shared_effects([*groups, *known[-MOST_KNOWN:]])
    new, old = effects[: int(mask.sum())], effects[int(mask.sum()) :]
    doubt = (new @ new.T).toarray()
    if old.shape[0]:
        between = (new @ old.T).toarray()
        inner = (old @ old.T).toarray() + (NOISE / UNKNOWN) ** 2 * np.eye(old.shape[0])
        doubt -= between @ np.linalg.solve(inner, between.T)
    degree = np.array([len(group.models) for group in groups])[np.nonzero(mask)[0]]
    guess = UNKNOWN * (1.0 - 1.0 / degree)  # as if slowdown were the degree
    size = np.outer(guess, guess)
    if predicted is not None:
        spread = np.log(predicted[:, mask]).std(axis=0, ddof=1)
        size += np.outer(spread, spread)
    return size * doubt


def take(doubt: np.ndarray, groups: Sequence[Group], seconds: np.ndarray, count: int) -> list[int]:
    """Return the places of up to `count` groups, best first.

    `doubt` (n, n) is over the targets of `groups`, `seconds` (groups,) what measuring each takes.
    After each group the rest is judged anew, as if it had been measured.
    """
    left = doubt.copy()
    places = padded_places(np.nonzero(targets(groups))[0], len(groups))
    free = np.full(len(groups), True)
    taken: list[int] = []
    while len(taken) < min(count, len(groups)):
        best = int(np.argmax(np.where(free, gains(left, places) / seconds, -1.0)))
        free[best] = False
        taken.append(best)
        rows = places[best][places[best] >= 0]
        noisy = left[np.ix_(rows, rows)] + NOISE**2 * np.eye(len(rows))
        left -= left[:, rows] @ np.linalg.solve(noisy, left[rows])
    return taken


def padded_places(group_of: np.ndarray, groups: int) -> np.ndarray:
    """Return the targets of each group, int (groups, width), padded with -1."""
    counts = np.bincount(group_of, minlength=groups)
    places = np.full((groups, int(counts.max(initial=1))), -1)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    places[group_of, np.arange(len(group_of)) - first[group_of]] = np.arange(len(group_of))
    return places


def gains(covariance: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return by how much measuring each group would lower the sum of all variances (groups,)."""
    used = places >= 0
    reach = np.where(used[:, :, None], covariance[places], 0.0)  # (groups, width, n)
    inside = np.take_along_axis(reach, np.maximum(places, 0)[:, None, :], axis=2)
    inside = np.where(used[:, None, :], inside, 0.0) + NOISE**2 * np.eye(places.shape[1])
    return np.einsum("gii->g", np.linalg.solve(inside, reach @ reach.transpose(0, 2, 1)))
