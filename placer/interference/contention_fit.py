"""Fits the contention to measured slowdowns: penalised Gauss-Newton on log slowdowns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from placer.interference.contention import (
    DEMAND,
    GLOBALS,
    OWN_REGRESSION,
    REACTION,
    REGRESSION,
    SHARE_REGRESSION,
    WIDEST,
    Contention,
    bounded,
    demand_codes,
    form,
    layout,
    reaction_codes,
    utilisation,
)
from placer.interference.profiles import Profiles, Rows, Vocabulary
from placer.interference.regressors import SHARE, regressors

STEPS, WARM_STEPS, SOLVES = 10, 4, 40
TURNING_POINT = 0.05  # log errors above this count linearly, as they do in MAPE
LEAST_SLOWDOWN = 0.5
DAMPING, LONGEST = 0.01, 1.5
ENOUGH = 1e-4  # relative gain of a step below which the fit ends


def fit_contention(
    vocabulary: Vocabulary,
    profiles: Profiles,
    rows: Rows,
    slowdown: np.ndarray,
    firmness: float = 1.0,
    begin: Contention | None = None,
) -> Contention:
    """Fit to the slowdowns (n,) of `rows`; `begin` is a fit to nearly the same to start from.

    With more `firmness` single effects are held back more: their penalties times so much.
    """
    sizes = (len(vocabulary.models), len(vocabulary.families), len(vocabulary.vm_types))
    names, table = regressors(vocabulary, profiles)
    centre, spread, low, high = scales(names, table, rows)
    members = np.concatenate([rows.target, rows.co[rows.co >= 0]])
    prior, penalty = priors(sizes, names, centre, spread, firmness)
    found = Contention(
        sizes,
        names,
        centre,
        spread,
        low,
        high,
        support=np.bincount(profiles.model[rows.target], minlength=sizes[0] + 1).astype(float),
        seen=np.bincount(profiles.family[members], minlength=sizes[1] + 1).astype(float),
        met=np.bincount(profiles.vm[rows.vm], minlength=sizes[2] + 1).astype(float),
        theta=prior.copy() if begin is None else begin.theta.copy(),
    )
    if len(slowdown):
        design = Design.of(found, profiles, rows, found.standardised(profiles, table))
        goal = np.log(np.maximum(slowdown, LEAST_SLOWDOWN))
        steps = STEPS if begin is None else WARM_STEPS
        found.theta = descend(design, goal, found.theta, prior, penalty, steps)
    return found


def scales(
    names: list[str], table: np.ndarray, rows: Rows
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return centre, spread and the range (Q,) of the regressors over the members of the rows.

    What belongs to the model alone is not followed beyond its range, what compares VM types is.
    """
    present = rows.co >= 0
    on = np.broadcast_to(rows.vm[:, None], rows.co.shape)[present]
    values = np.concatenate([table[rows.target, rows.vm], table[rows.co[present], on]])
    if not len(values):
        values = np.zeros((1, len(names)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns without any known value
        centre = np.nan_to_num(np.nanmean(values, axis=0))
        spread = np.nan_to_num(np.nanstd(values, axis=0))
        spread = np.where(spread > 1e-6, spread, 1e12)
        scaled = (values - centre) / spread
        low = np.maximum(np.nan_to_num(np.nanmin(scaled, axis=0)), -WIDEST)
        high = np.minimum(np.nan_to_num(np.nanmax(scaled, axis=0)), WIDEST)
    follow = np.array([name.startswith(("vm ", "solo on ", "saturation")) for name in names])
    return centre, spread, np.where(follow, -WIDEST, low), np.where(follow, WIDEST, high)


def priors(
    sizes: tuple[int, int, int],
    names: list[str],
    centre: np.ndarray,
    spread: np.ndarray,
    firmness: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the parameters before the data speak and their penalties."""
    begins, total = layout(sizes, len(names))
    prior, penalty = np.zeros(total), np.empty(total)
    order = [*begins.items(), ("end", total)]
    weights = {f"demand {name}": weight for name, weight in DEMAND.items()}
    weights |= {f"reaction {name}": weight for name, weight in REACTION.items()}
    weights |= {"regressors": REGRESSION, "own regressors": OWN_REGRESSION,
                "reaction regressors": REGRESSION, "globals": 1.0}  # fmt: skip
    for (name, at), (_, end) in pairwise(order):
        penalty[at:end] = weights[name]
    penalty *= firmness
    at = begins["globals"]
    prior[at : at + len(GLOBALS)] = [value for value, _, _ in GLOBALS.values()]
    penalty[at : at + len(GLOBALS)] = [weight for _, weight, _ in GLOBALS.values()]
    if SHARE in names and spread[names.index(SHARE)] < 1e11:
        # The share of the cores in use is itself the demand, until the data say otherwise.
        one = names.index(SHARE)
        prior[begins["regressors"] + one] = spread[one]
        penalty[begins["regressors"] + one] = SHARE_REGRESSION * firmness
        prior[at] = centre[one]
    return prior, penalty


@dataclass
class Design:
    """The rows as sparse matrices over the parameters: `demand` and `reaction` have one row for
    each co-runner, in the order of `of_row`; `own` has one for each target."""

    demand: Any
    reaction: Any
    own: Any
    of_row: np.ndarray
    load: np.ndarray
    globals: int

    @staticmethod
    def of(contention: Contention, profiles: Profiles, rows: Rows, scaled: np.ndarray) -> Design:
        """Build for the rows; `scaled` (K, V, Q) are the standardised regressors."""
        sizes, count = contention.sizes, len(contention.names)
        begins, total = layout(sizes, count)
        at = begins["globals"]
        of_row, column = np.nonzero(rows.co >= 0)
        target, vm, co = rows.target[of_row], rows.vm[of_row], rows.co[of_row, column]
        load = np.log(profiles.share())
        place = {name: at + k for k, name in enumerate(GLOBALS)}

        def codes(kind: str, found: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [begins[f"{kind} {name}"] + values for name, values in found.items()]

        def dense(name: str) -> np.ndarray:
            return np.arange(begins[name], begins[name] + count)

        demand = sparse(total, codes("demand", demand_codes(profiles, co, vm, sizes)),
                        [(dense("regressors"), scaled[co, vm])],
                        {place["demand"]: np.ones(len(co))})  # fmt: skip
        reaction = sparse(total, codes("reaction", reaction_codes(profiles, target, co, vm, sizes)),
                          [(dense("reaction regressors"), scaled[target, vm])],
                          {place["reaction"]: np.ones(len(co)),
                           place["load"]: load[co, vm]})  # fmt: skip
        own_codes = demand_codes(profiles, rows.target, rows.vm, sizes)
        mine = scaled[rows.target, rows.vm]
        own = sparse(total, codes("demand", own_codes),
                     [(dense("regressors"), mine), (dense("own regressors"), mine)],
                     {place["demand"]: np.ones(len(mine)),
                      place["own_load"]: load[rows.target, rows.vm]})  # fmt: skip
        return Design(demand, reaction, own, of_row, utilisation(profiles, rows), at)

    def log_slowdown(self, theta: np.ndarray, jacobian: bool = False) -> tuple[np.ndarray, Any]:
        """Return the log slowdown (n,) and, where asked for, its Jacobian (n, parameters)."""
        from scipy import sparse as scipy_sparse

        share, share_slope = bounded(self.demand @ theta)
        each = share * np.exp(np.clip(self.reaction @ theta, -9.0, 4.0))
        total = np.bincount(self.of_row, each, len(self.load))
        own, own_slope = bounded(self.own @ theta)
        values = dict(zip(GLOBALS, theta[self.globals :], strict=True))
        crowding, light, queueing, slope = form(own, total, self.load, values)
        rate = np.exp(values["queueing"])
        log = crowding + light + rate * queueing
        if not jacobian:
            return log, None
        p, beside = np.exp(values["sharpness"]), np.exp(values["light"])
        filled = own + total
        by_filled = 1.0 / (1.0 + filled**-p) / filled
        by_own = 1.0 / (1.0 + own**-p) / own
        through = 1.0 + rate * slope
        there = -beside * np.expm1(-total)  # of light contention
        by_total = (by_filled + (beside - there) / (1.0 + there)) * through
        by_p = np.log(filled) * filled * by_filled - np.log(own) * own * by_own - crowding
        weight = scipy_sparse.csr_matrix(
            (by_total[self.of_row] * each, (self.of_row, np.arange(len(each)))),
            shape=(len(total), len(each)),
        )
        pairs = self.reaction + scipy_sparse.diags(share_slope) @ self.demand
        slopes = weight @ pairs
        slopes += scipy_sparse.diags((by_filled - by_own) * through * own * own_slope) @ self.own
        slopes_of_form = {
            "sharpness": by_p * through,
            "light": there / (1.0 + there) * through,
            "queueing": rate * queueing,
        }
        place = {name: self.globals + k for k, name in enumerate(GLOBALS)}
        columns = {place[name]: values for name, values in slopes_of_form.items()}
        return log, (slopes + sparse(len(theta), [], [], columns)).tocsr()


def sparse(
    width: int,
    codes: list[np.ndarray],
    dense: list[tuple[np.ndarray, np.ndarray]],
    columns: dict[int, np.ndarray],
) -> Any:
    """Return a sparse matrix (n, width): ones at `codes`, `dense` blocks and single `columns`."""
    from scipy import sparse as scipy_sparse

    places = [code[:, None] for code in codes]
    values = [np.ones((len(code), 1)) for code in codes]
    for where, block in dense:
        places.append(np.broadcast_to(where, block.shape))
        values.append(block)
    for at, column in columns.items():
        places.append(np.full((len(column), 1), at))
        values.append(column[:, None])
    place, value = np.concatenate(places, axis=1), np.concatenate(values, axis=1)
    rows, each = place.shape
    starts = np.arange(0, rows * each + 1, each)
    return scipy_sparse.csr_matrix((value.ravel(), place.ravel(), starts), shape=(rows, width))


def descend(
    design: Design,
    goal: np.ndarray,
    theta: np.ndarray,
    prior: np.ndarray,
    penalty: np.ndarray,
    steps: int,
) -> np.ndarray:
    """Return the parameters after at most `steps` damped Gauss-Newton steps from `theta`."""
    low, high = np.full(len(theta), -np.inf), np.full(len(theta), np.inf)
    for place, (_, _, bounds) in enumerate(GLOBALS.values()):
        low[design.globals + place], high[design.globals + place] = bounds

    def cost(theta: np.ndarray) -> float:
        error = (design.log_slowdown(theta)[0] - goal) / TURNING_POINT
        robust = 2.0 * TURNING_POINT**2 * (np.sqrt(1.0 + error**2) - 1.0)
        return float(robust.sum() + (penalty * (theta - prior) ** 2).sum())

    best = cost(theta)
    for _ in range(steps):
        log, slopes = design.log_slowdown(theta, jacobian=True)
        error = log - goal
        weight = 1.0 / np.sqrt(1.0 + (error / TURNING_POINT) ** 2)
        across = slopes.T.tocsr()
        downhill = -(across @ (weight * error) + penalty * (theta - prior))
        damped = penalty + DAMPING
        diagonal = damped + across.power(2) @ weight
        step = solve(partial(curved, slopes, across, weight, damped), downhill, diagonal)
        before = best
        for share in (1.0, 0.5, 0.2, 0.05):
            tried = np.clip(theta + share * np.clip(step, -LONGEST, LONGEST), low, high)
            found = cost(tried)
            if found < best:
                theta, best = tried, found
                break
        if before - best <= ENOUGH * before:
            break
    return theta


def curved(
    slopes: Any, across: Any, weight: np.ndarray, damped: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Return the damped Gauss-Newton matrix times x."""
    product: np.ndarray = across @ (weight * (slopes @ x)) + damped * x
    return product


def solve(
    apply: Callable[[np.ndarray], np.ndarray], right: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Return x with apply(x) = right, by conjugate gradients scaled by the diagonal."""
    x = np.zeros_like(right)
    left = right.copy()
    scaled = left / diagonal
    direction, length = scaled.copy(), float(left @ scaled)
    for _ in range(SOLVES):
        if length < 1e-12:
            break
        image = apply(direction)
        step = length / float(direction @ image)
        x += step * direction
        left -= step * image
        scaled = left / diagonal
        shorter = float(left @ scaled)
        direction = scaled + shorter / length * direction
        length = shorter
    return x
