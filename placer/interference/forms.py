"""The two forms of a prediction, and how far each is followed.

The first is the contention of learned demands, corrected by trees; the second (`excess`) knows no
names of models. Their logarithms are averaged, with shares that were chosen on held-out groups for
targets measured in groups, for models that never were, for whole families that never were, for VM
types that never were, and for targets beside a family that never was; on VM types that hardly were
the first form stands alone. But beside a new family, the share depends on the target and its VM
alone, so that one more co-runner never lowers a prediction; beside a new family, a prediction is
never below that of the group without it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from placer.interference.contention import Contention
from placer.interference.excess import Excess, Plain
from placer.interference.features import Prepared, build, prepare
from placer.interference.profiles import Profiles, Rows, Vocabulary
from placer.interference.trees import Trees

NOVELTIES = (
    "measured",
    "new model",
    "new family",
    "new VM type",
    "nearly new VM type",
    "beside a new family",
)
MEASURED, NEW_MODEL, NEW_FAMILY, NEW_VM, NEARLY_NEW_VM, BESIDE_NEW_FAMILY = range(len(NOVELTIES))
HARDLY = 0.2  # a VM type with a smaller share of the most measured one's targets is nearly new
CANDIDATES = np.round(np.linspace(0.0, 1.0, 21), 2)
FEWEST = 20  # held-out targets below which a share is not chosen


@dataclass(frozen=True)
class Forms:
    """Both forms, and the `shares` (6,) of the second by novelty."""

    contention: Contention
    trees: Trees
    excess: Excess
    shares: np.ndarray

    def ready(self, vocabulary: Vocabulary, profiles: Profiles) -> Ready:
        """Return the forms for these profiles, with all that rows share worked out."""
        first = prepare(vocabulary, profiles, self.contention)
        return Ready(self, profiles, first, Plain.of(vocabulary, profiles))

    def novelty(self, profiles: Profiles, rows: Rows) -> np.ndarray:
        """Return for each target (n,) its place in NOVELTIES."""
        seen = self.contention
        found = np.where(seen.support[profiles.model[rows.target]] == 0, NEW_MODEL, MEASURED)
        beside = self.of_new_family(profiles, rows.co).any(axis=1)
        found = np.where(beside, BESIDE_NEW_FAMILY, found)
        found = np.where(self.of_new_family(profiles, rows.target), NEW_FAMILY, found)
        met = seen.met[profiles.vm[rows.vm]]
        few = met < HARDLY * seen.met.max()
        found = np.where(few & (found == MEASURED), NEARLY_NEW_VM, found)
        return np.where(met == 0, NEW_VM, found)

    def of_new_family(self, profiles: Profiles, kinds: np.ndarray) -> np.ndarray:
        """Return which kinds, -1 for none, are of a family that was never measured in a group."""
        found: np.ndarray = (kinds >= 0) & (self.contention.seen[profiles.family[kinds]] == 0)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {
            "contention": self.contention.to_json(),
            "trees": self.trees.to_json(),
            "excess": self.excess.to_json(),
            "shares": dict(zip(NOVELTIES, self.shares.tolist(), strict=True)),
        }

    @staticmethod
    def from_json(data: Any) -> Forms:
        """Build from `to_json` data; raises KeyError, TypeError, ValueError or IndexError."""
        shares = np.array([float(data["shares"][name]) for name in NOVELTIES])
        if not ((shares >= 0.0) & (shares <= 1.0)).all():
            raise ValueError("shares are not between 0 and 1")
        return Forms(
            Contention.from_json(data["contention"]),
            Trees.from_json(data["trees"]),
            Excess.from_json(data["excess"]),
            shares,
        )


@dataclass(frozen=True)
class Ready:
    """The forms for one set of profiles."""

    forms: Forms
    profiles: Profiles
    first: Prepared
    plain: Plain

    def logs(self, rows: Rows) -> np.ndarray:
        """Return the log slowdown by each form (n, 2), 0 or more."""
        if not len(rows.target):
            return np.zeros((0, 2))
        columns, terms = build(self.first, rows)
        first = np.maximum(terms.log() + self.forms.trees.margin(columns.matrix()), 0.0)
        plain = self.plain.columns(rows).matrix()
        return np.column_stack([first, self.forms.excess.log_slowdown(plain, rows.degree())])

    def share(self, rows: Rows) -> np.ndarray:
        """Return how far the second form is followed for each target (n,)."""
        found: np.ndarray = self.forms.shares[self.forms.novelty(self.profiles, rows)]
        return found

    def slowdown(self, rows: Rows) -> np.ndarray:
        """Return the slowdown (n,), 1 or more."""
        return np.exp(self.told(rows)[1])

    def told(self, rows: Rows) -> tuple[Rows, np.ndarray]:
        """Return the rows that the predictions are those of, and their log slowdowns (n,).

        A row beside new families has a share of its own. Where that says less than is said of the
        target without them, the row comes without them.
        """
        novelty = self.forms.novelty(self.profiles, rows)
        log = averaged(self.logs(rows), self.forms.shares[novelty])
        at = np.flatnonzero(novelty == BESIDE_NEW_FAMILY)
        if not len(at):
            return rows, log
        strange = self.forms.of_new_family(self.profiles, rows.co)
        rest = replace(rows, co=np.where(strange, -1, rows.co)).take(at)
        without = averaged(self.logs(rest), self.share(rest))
        less = log[at] < np.where(rest.degree() > 1, without, 0.0)
        co = rows.co.copy()
        co[at[less]] = rest.co[less]
        log[at[less]] = without[less]
        return replace(rows, co=co), log


def averaged(logs: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return the average (n,) of two forms' log slowdowns (n, 2); `share` is the second's."""
    found: np.ndarray = (1.0 - share) * logs[:, 0] + share * logs[:, 1]
    return found


def best_share(measured: np.ndarray, logs: np.ndarray) -> float | None:
    """Return the share of least mean relative error on held-out targets, None where too few.

    `measured` are slowdowns (n,), `logs` (n, 2) the two forms' log slowdowns.
    """
    if len(measured) < FEWEST:
        return None
    errors = [np.abs(np.exp(averaged(logs, one)) / measured - 1.0).mean() for one in CANDIDATES]
    return float(CANDIDATES[int(np.argmin(errors))])
