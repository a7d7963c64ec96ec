"""How good a predictor is: error and coverage, cross-validation with baselines, and queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from placer.errors import InputError, UsageError, near_name
from placer.interference.explanation import in_words
from placer.interference.measurements import Measurements, check_rows, read_table
from placer.interference.predictor import Predictor
from placer.interference.profiles import ModelProfile, VmTypeProfile
from placer.interference.training import Examples, Settings, fingerprints, folds, make_examples

if TYPE_CHECKING:
    import pandas as pd

QUANTILE = 0.95
QUERY_COLUMNS = ("run", "vm_type", "model")
GROUPINGS = ("run", "configuration", "mix", "model", "family", "vm_type", "degree")


def evaluate(predictor: Predictor, measurements: Measurements) -> dict[str, Any]:
    """Compare predictions with measured slowdowns, by degree and by VM type.

    Returns `targets`, `in_training` (how many of them the predictor was trained on), and `rows`:
    dicts with data ("in training" or "held out"), by, value, targets, mape, median_ape, bias
    (percent of the measured slowdown, bias signed) and coverage (percent under the 95 % upper
    bound). Replicas of one model in one run count once. Raises InputError where nothing can be
    compared.
    """
    examples, predicted, upper = predict_examples(predictor, measurements)
    targets = measurements.targets()
    trained = set(predictor.metadata.get("fingerprints", []))
    seen = {run for run, mark in fingerprints(measurements).items() if mark in trained}
    inside = targets["run"].isin(seen).to_numpy()
    rows = []
    for data, chosen in (("held out", ~inside), ("in training", inside)):
        for by, values in (
            ("all", np.full(len(targets), "all")),
            ("degree", targets["degree"].to_numpy()),
            ("vm_type", targets["vm_type"].to_numpy(dtype=str)),
        ):
            for value in np.unique(values[chosen]):
                which = chosen & (values == value)
                score = scores(examples.slowdown[which], predicted[which], upper[which])
                rows.append({"data": data, "by": by, "value": value.item(), **score})
    return {"source": measurements.source, "targets": len(targets),
            "in_training": int(inside.sum()), "rows": rows}  # fmt: skip


def predict_examples(
    predictor: Predictor, measurements: Measurements
) -> tuple[Examples, np.ndarray, np.ndarray]:
    """Return the measured targets as examples, their predictions and 95 % upper bounds (n,)."""
    informed = predictor.knowing(measurements)
    examples = make_examples(informed.vocabulary, informed.known, measurements)
    predicted = informed.ready(examples.profiles).slowdown(examples.rows)
    upper = informed.upper(examples.profiles, examples.rows, predicted, QUANTILE)
    return examples, predicted, upper


def scores(
    measured: np.ndarray, predicted: np.ndarray, upper: np.ndarray | None = None
) -> dict[str, Any]:
    """Return count and errors in percent; coverage where upper bounds are given."""
    error = 100.0 * (predicted / measured - 1.0)
    found: dict[str, Any] = {
        "targets": len(measured),
        "mape": float(np.abs(error).mean()),
        "median_ape": float(np.median(np.abs(error))),
        "bias": float(error.mean()),
    }
    if upper is not None:
        found["coverage"] = float(100.0 * (measured <= upper).mean())
    return found


def splits(
    measurements: Measurements,
    grouping: str,
    count: int | None,
    seed: int,
    largest_degree: int,
    calibration_runs: int = 0,
) -> Iterator[tuple[set[str], set[str]]]:
    """Yield the training and the test runs of each fold; no run is on both sides.

    `run`, `configuration` (VM type and multiset of models) and `mix` (that multiset, on every VM
    type) keep what is equal together; `model` tests on every run with a model of the fold and
    trains on the others; `family` and `vm_type` hold each one out in turn, and with
    `calibration_runs` that many runs of different mixes of that VM type stay in training;
    `degree` trains up to `largest_degree` and tests above it. `count` None is one fold for each.
    """
    rows = measurements.rows[measurements.rows["degree"] > 1]
    runs = rows["run"]
    if grouping == "degree":
        small = rows["degree"] <= largest_degree
        yield set(runs[small]), set(runs[~small])
        return
    if grouping not in GROUPINGS:
        raise UsageError(f"found grouping {grouping!r}; expected one of {', '.join(GROUPINGS)}")
    if grouping == "family":
        column = "family" if "family" in measurements.models else None
        labels = rows["model"] if column is None else measurements.models[column].loc[rows["model"]]
    else:
        labels = rows[grouping]
    names = labels.to_numpy(dtype=str)
    each = count is None or grouping in ("family", "vm_type")
    fold = folds(names, len(set(names)) if each else int(count or 1), seed)
    random = np.random.default_rng(seed)
    for one in range(fold.max() + 1):
        test = set(runs[fold == one])
        if grouping == "vm_type" and calibration_runs:
            first = rows[fold == one].drop_duplicates("mix")["run"].to_numpy(dtype=str)
            test -= set(random.permutation(np.sort(first))[:calibration_runs].tolist())
        yield set(runs) - test, test


def cross_validate(
    measurements: Measurements,
    folds: int | None = 5,
    grouping: str = "configuration",
    *,
    seed: int = 0,
    workers: int | None = None,
    settings: Settings | None = None,
    largest_degree: int = 3,
    calibration_runs: int = 0,
    calibrate: bool = True,
) -> list[dict[str, Any]]:
    """Train and test on grouped folds; return the scores of the predictor and two baselines.

    One dict each for `unified`, `mean` (the mean slowdown) and `additive` (a linear model of
    overheads, see `additive`), as from `scores`, percent. `unified` also has `folds`: for each
    one its VM types, error and count. Raises InputError where there are too few runs for two
    sides, UsageError for an unknown `grouping` (see `splits`).
    """
    settings = settings or Settings()
    if not calibrate:
        settings = replace(settings, calibration_folds=0)
    parts, by_fold = [], []
    for train, test in splits(
        measurements, grouping, folds, seed, largest_degree, calibration_runs
    ):
        if not train or not test:
            raise InputError("has too few different runs to split", source=measurements.source)
        learned, held = measurements.with_runs(train), measurements.with_runs(test)
        predictor = Predictor.train(learned, seed=seed, workers=workers, settings=settings)
        parts.append(compare(predictor, learned, held))
        error = scores(parts[-1]["measured"], parts[-1]["unified"])
        vm_types = ", ".join(sorted(set(held.targets()["vm_type"])))
        by_fold.append((vm_types, error["mape"], error["targets"]))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    upper = whole["upper"] if calibrate else None
    unified = scores(whole["measured"], whole["unified"], upper)
    result = [{"predictor": "unified", **unified, "folds": by_fold}]
    for name in ("mean", "additive"):
        result.append({"predictor": name, **scores(whole["measured"], whole[name])})
    return result


def compare(
    predictor: Predictor, learned: Measurements, held: Measurements
) -> dict[str, np.ndarray]:
    """Return measured slowdowns (n,) of `held`, the predictions, and those of the baselines."""
    examples, predicted, upper = predict_examples(predictor, held)
    known = make_examples(predictor.vocabulary, predictor.known, learned)
    return {
        "measured": examples.slowdown,
        "unified": predicted,
        "upper": upper,
        "mean": np.full(len(predicted), known.slowdown.mean()),
        "additive": additive(known, examples),
    }


def additive(known: Examples, asked: Examples) -> np.ndarray:
    """Return slowdowns (n,) of a baseline: 1 + the sum over co-runners of (a_target + b_co).

    The terms a and b belong to a model on a VM type; they are fitted by least squares of the
    relative error to the slowdowns of `known`. A pair never seen gets the VM type's mean.
    """
    out = np.ones(len(asked.slowdown))
    models = int(max(known.profiles.model.max(), asked.profiles.model.max())) + 1
    for vm in np.unique(asked.rows.vm):
        train = known.rows.vm == vm
        ask = asked.rows.vm == vm
        if not train.any():
            train = np.full(len(train), True)
        design = design_matrix(known, train, models)
        weight = 1.0 / known.slowdown[train]
        count = known.rows.degree()[train] - 1.0
        mean = np.average((known.slowdown[train] - 1.0) / count, weights=weight)
        left = known.slowdown[train] - 1.0 - mean * count
        scaled = design * weight[:, None]
        normal = scaled.T @ scaled + 1e-2 * np.eye(design.shape[1])
        terms = np.linalg.solve(normal, scaled.T @ (left * weight))
        steps = asked.rows.degree()[ask] - 1.0
        out[ask] = 1.0 + mean * steps + design_matrix(asked, ask, models) @ terms
    return np.maximum(out, 1.0)


def design_matrix(examples: Examples, which: np.ndarray, models: int) -> np.ndarray:
    """Return (rows, 2 * models): degree - 1 at the target's place, a count at each co-runner's."""
    rows = examples.rows.take(which)
    design = np.zeros((len(rows.target), 2 * models))
    at = np.arange(len(design))
    design[at, examples.profiles.model[rows.target]] = rows.degree() - 1.0
    for place in range(rows.co.shape[1]):
        present = rows.co[:, place] >= 0
        column = models + examples.profiles.model[rows.co[present, place]]
        design[at[present], column] += 1.0
    return design


def predict_table(
    predictor: Predictor,
    queries: Any,
    measurements: Measurements | None = None,
    *,
    source: str | None = None,
    explain: bool = False,
) -> pd.DataFrame:
    """Return the query rows in order with slowdown and slowdown_upper (95 %) added.

    `queries` is a path or an open CSV file with the columns run, vm_type, model and, if not all
    are closed loop, rate_rps; the rows of one run share one VM. A column `note` says where a
    group is far from the training data; it is left out where none is. With `explain`, a column
    `explanation` has the factors that multiply to the slowdown, in words. Models and VM types that
    were not trained on get their features and solo profiles from `measurements`. Raises
    InputError with the row.
    """
    source = source or str(queries)
    raw = read_table(queries, source)
    table = check_rows(raw, source, required=QUERY_COLUMNS, known=(*QUERY_COLUMNS, "rate_rps"))
    if measurements is not None:
        predictor = predictor.knowing(measurements)
    check_known(predictor, table, source)
    try:
        found = predict_runs(predictor, table.reset_index(drop=True), explain)
    except InputError as error:
        raise error if error.source else error.within(source) from None
    return raw.reset_index(drop=True).assign(**found)


def predict_runs(
    predictor: Predictor, table: pd.DataFrame, explain: bool = False
) -> dict[str, np.ndarray]:
    """Return the columns to add to checked queries: slowdown, slowdown_upper and texts."""
    key = list(zip(table["model"], table["rate_rps"].fillna(-1.0), strict=True))
    kinds = {one: place for place, one in enumerate(sorted(set(key)))}
    vms = {name: place for place, name in enumerate(sorted(set(table["vm_type"])))}
    members = np.array([kinds[one] for one in key])
    bound = predictor.bind(
        [ModelProfile(name, None if rate < 0 else rate) for name, rate in kinds],
        [VmTypeProfile(name) for name in vms],
    )
    mean, upper = np.ones(len(table)), np.ones(len(table))
    notes = np.full(len(table), "", dtype=object)
    explanations = notes.copy()
    groups = table.groupby("run", sort=False).indices
    for vm_name, vm in vms.items():
        runs = [at for at in groups.values() if table["vm_type"].iloc[at[0]] == vm_name]
        width = max(len(at) for at in runs)
        asked = np.full((len(runs), width), -1)
        rows = np.full((len(runs), width), -1)
        for place, at in enumerate(runs):
            order = at[np.argsort(members[at], kind="stable")]
            asked[place, : len(at)], rows[place, : len(at)] = members[order], order
        used = asked >= 0
        mean[rows[used]] = bound.slowdown(vm, asked)[used]
        upper[rows[used]] = bound.upper(vm, asked, QUANTILE)[used]
        text = np.array(bound.extrapolation(vm, asked), dtype=object)
        notes[rows[used]] = np.broadcast_to(text[:, None], asked.shape)[used]
        for at in runs if explain else []:
            for member, factors in bound.factors(vm, members[at].tolist()).items():
                explanations[at[members[at] == member]] = in_words(factors)
    columns = {"slowdown": mean, "slowdown_upper": upper}
    if any(notes):
        columns["note"] = notes
    return columns | ({"explanation": explanations} if explain else {})


def check_known(predictor: Predictor, table: pd.DataFrame, source: str) -> None:
    """Raise InputError at the first row whose model or VM type the predictor has never met."""
    for column, known in (
        ("model", predictor.known.models),
        ("vm_type", predictor.known.vm_types),
    ):
        strange = table[~table[column].isin(list(known))]
        if len(strange):
            name = str(strange[column].iloc[0])
            raise InputError(
                f"{name!r} is not in the predictor's training data{near_name(name, known)}; "
                "give a folder with its features and solo runs as --measurements",
                path=f"row {strange.index[0]}, column {column}",
                source=source,
            )
