"""One monotone XGBoost model for the slowdown of every member of any group of models.

After Mendoza et al., "Interference-Aware Scheduling for Inference Serving" (EuroMLSys 2021,
doi 10.1145/3437984.3458837), widened from pairs to groups of any co-location degree:
slowdown = contention * exp(trees), where the contention is a formula of learned demands that holds
for every degree, and the trees may only rise as co-runners are added; averaged with a second form
that knows no names of models, as far as held-out groups say (`forms`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from placer.errors import InputError, near_name
from placer.interference.bound_predictor import BoundPredictor
from placer.interference.calibrate import calibrate
from placer.interference.calibration import Calibration
from placer.interference.forms import Forms, Ready
from placer.interference.measurements import Known, Measurements
from placer.interference.profiles import (
    ModelProfile,
    Profiles,
    Rows,
    VmTypeProfile,
    Vocabulary,
    compile_profiles,
    make_vocabulary,
)
from placer.interference.training import Settings, describe, firmest, fit, make_examples
from placer.interference.trees import MANY

if TYPE_CHECKING:
    import pandas as pd

FORMAT, VERSION = "placer/predictor", 5
T = TypeVar("T")


class Predictor:
    """Predicts slowdowns for every co-location degree and VM type; see `train` and `bind`."""

    def __init__(
        self,
        known: Known,
        vocabulary: Vocabulary,
        forms: Forms,
        calibration: Calibration,
        metadata: dict[str, Any],
    ) -> None:
        self.known = known
        self.vocabulary = vocabulary
        self.forms = forms
        self.calibration = calibration
        self.metadata = metadata

    @staticmethod
    def train(
        measurements: Measurements,
        *,
        seed: int = 0,
        workers: int | None = None,
        settings: Settings | None = None,
    ) -> Predictor:
        """Fit to measured groups; deterministic for a seed. `workers` is the number of threads.

        Raises InputError where there is no shared run to learn from.
        """
        settings = settings or Settings()
        known = Known.of(measurements)
        vocabulary = make_vocabulary(known)
        examples = make_examples(vocabulary, known, measurements)
        # Threads wait for each other longer than they work until the data are large.
        threads = workers or (1 if len(examples.slowdown) < MANY else min(2, os.cpu_count() or 1))
        if settings.firmness is None:
            settings = replace(settings, firmness=firmest(vocabulary, examples, seed))
        shares, calibration = calibrate(vocabulary, examples, settings, seed, threads)
        forms = replace(fit(vocabulary, examples, settings, seed, threads), shares=shares)
        metadata = describe(measurements, examples, settings, seed)
        return Predictor(known, vocabulary, forms, calibration, metadata)

    def knowing(self, measurements: Measurements) -> Predictor:
        """Return the same predictor, told the features and solo runs of further measurements.

        What the training data say of a model, VM type or solo run stays; nothing is learned.
        """
        known = self.known.with_others(Known.of(measurements))
        return Predictor(known, self.vocabulary, self.forms, self.calibration, self.metadata)

    def bind(
        self, models: Sequence[ModelProfile], vm_types: Sequence[VmTypeProfile]
    ) -> BoundPredictor:
        """Return the predictor for these models and VM types, which groups number by place.

        Raises InputError where one is neither in the training data nor described well enough.
        """
        for kind, given, known, columns in (
            ("model", models, self.known.models,
             [*self.vocabulary.model_numbers, *self.vocabulary.model_texts]),
            ("VM type", vm_types, self.known.vm_types,
             [*self.vocabulary.vm_numbers, *self.vocabulary.vm_texts]),
        ):  # fmt: skip
            for one in given:
                lacks = columns and not any(one.features.get(c) is not None for c in columns)
                if one.name not in known and lacks:
                    solo = " and solo_latency_ms" if kind == "model" else ""
                    raise InputError(
                        f"{kind} {one.name!r} is not in the predictor's training data"
                        f"{near_name(one.name, known)}; give its features "
                        f"({', '.join(columns)}){solo}"
                    )
        profiles = compile_profiles(self.vocabulary, self.known, models, vm_types)
        return BoundPredictor(self, profiles, tuple(models), tuple(vm_types))

    def ready(self, profiles: Profiles) -> Ready:
        """Return what predicts for rows of these profiles."""
        return self.forms.ready(self.vocabulary, profiles)

    def upper(
        self, profiles: Profiles, rows: Rows, mean: np.ndarray, quantile: float
    ) -> np.ndarray:
        """Return the bound (n,) that holds with probability `quantile`, given the means (n,)."""
        models, vms = self.strangers(profiles)
        members = np.column_stack([rows.target, rows.co])
        strange = ((members >= 0) & models[members]).any(axis=1)
        return self.calibration.upper(mean, rows.degree(), quantile, strange, vms[rows.vm])

    def encoding(self) -> pd.DataFrame:
        """Return the learned two-dimensional encoding of the VM types: vm_type, x and y.

        x is the mean over the trained models of the log share of the VM that one replica takes,
        y the mean log of how hard a model reacts to company there. Both are drawn towards what
        the VM type's features say, so that few runs, or none, place a new VM type.
        """
        import pandas as pd

        models = [ModelProfile(name) for name in self.metadata["models"]]
        vm_types = [VmTypeProfile(name) for name in self.known.vm_types]
        profiles = compile_profiles(self.vocabulary, self.known, models, vm_types)
        demands = self.forms.contention.demands(self.vocabulary, profiles)
        return pd.DataFrame({
            "vm_type": list(self.known.vm_types),
            "x": np.log(demands.own).mean(axis=0),
            "y": np.log(demands.reaction).mean(axis=0),
        })  # fmt: skip

    def strangers(self, profiles: Profiles) -> tuple[np.ndarray, np.ndarray]:
        """Return which kinds (K,) and VM types (V,) were never measured in a group."""
        names = [*self.vocabulary.models, None]
        vm_names = [*self.vocabulary.vm_types, None]
        models, vms = set(self.metadata["models"]), set(self.metadata["vm_types"])
        return (
            np.array([names[one] not in models for one in profiles.model], dtype=bool),
            np.array([vm_names[one] not in vms for one in profiles.vm], dtype=bool),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the predictor as plain JSON data."""
        forms = self.forms.to_json()
        return {
            "format": FORMAT,
            "version": VERSION,
            "metadata": self.metadata,
            "vocabulary": self.vocabulary.to_json(),
            "known": asdict(self.known),
            "calibration": self.calibration.to_json(),
            "checksum": checksum(forms),
            "forms": forms,
        }

    def save(self, path: str | Path) -> None:
        """Write one JSON file, beside its place first and then renamed into it.

        Raises InputError where the file cannot be written; nothing is then written over.
        """
        path = Path(path)
        text = json.dumps(self.to_json(), allow_nan=False)
        if path.is_dir():
            raise InputError("is a folder; expected a file to write", source=str(path))
        temporary = None
        try:
            with tempfile.NamedTemporaryFile(
                "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
            ) as file:
                temporary = file.name
                file.write(text + "\n")
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except OSError as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            raise InputError(f"cannot be written: {error.strerror}", source=str(path)) from None

    @staticmethod
    def load(path: str | Path) -> Predictor:
        """Read a predictor that `save` wrote; raises InputError for anything else."""
        source = str(path)
        if Path(path).is_dir():
            raise InputError("is a folder; expected a predictor file", source=source)
        try:
            data = json.loads(Path(path).read_bytes())
        except FileNotFoundError:
            raise InputError("there is no such file", source=source) from None
        except OSError as error:
            raise InputError(f"cannot be read: {error.strerror}", source=source) from None
        except (ValueError, RecursionError):
            raise InputError(
                "is not JSON (truncated, or another kind of file?); expected a predictor that "
                "`placer train` wrote",
                source=source,
            ) from None
        try:
            return Predictor.from_json(data)
        except InputError as error:
            raise error.within(source) from None

    @staticmethod
    def from_json(data: Any) -> Predictor:
        """Build from `to_json` data; raises InputError that says what is wrong."""
        check_header(data)
        metadata = read_part(data, "metadata", read_metadata)
        vocabulary = read_part(data, "vocabulary", lambda part: Vocabulary(**part))
        known = read_part(data, "known", lambda part: Known(**part))
        calibration = read_part(data, "calibration", Calibration.from_json)

        def read_forms(part: Any) -> Forms:
            if checksum(part) != data.get("checksum"):
                raise ValueError("the checksum does not fit")
            return Forms.from_json(part)

        forms = read_part(data, "forms", read_forms)
        return Predictor(known, vocabulary, forms, calibration, metadata)


def check_header(data: Any) -> None:
    """Raise InputError where JSON data are no predictor, or one of a version not known here."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InputError(f"found {found!r}; expected {FORMAT!r}", path="format")
    version = data.get("version")
    if type(version) is not int or version < 1:
        raise InputError(f"found {version!r}; expected {VERSION}", path="version")
    if version < VERSION:
        raise InputError(
            f"found {version}, from an older placer; this one reads {VERSION}: train it again",
            path="version",
        )
    if version > VERSION:
        raise InputError(
            f"found {version}, from a newer placer; this one reads up to {VERSION}",
            path="version",
        )


def read_part(data: dict[str, Any], part: str, read: Callable[[Any], T]) -> T:
    """Return what `read` makes of one part of a predictor file; raises InputError naming it."""
    try:
        return read(data[part])
    except KeyError as error:
        raise InputError(f"{error.args[0]!r} is missing", path=part) from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        text = " ".join(str(error).split())
        raise InputError(f"is damaged: {text}", path=part) from None


def read_metadata(part: Any) -> dict[str, Any]:
    """Return the metadata with the numbers that warnings are drawn from as numbers."""
    degrees = [int(degree) for degree in part["degrees"]]
    return {**part, "degrees": degrees, "loads": [float(load) for load in part["loads"]]}


def checksum(model: Any) -> str:
    """Return the SHA-256 of JSON data, so that a damaged model never reaches XGBoost."""
    text = json.dumps(model, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


__all__ = ["BoundPredictor", "ModelProfile", "Predictor", "Settings", "VmTypeProfile"]
