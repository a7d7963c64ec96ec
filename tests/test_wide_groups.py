"""Groups of many replicas are worked out by counts; the answer is the same."""

from __future__ import annotations

import numpy as np
import pytest

from placer import Instance
from placer.interference import tables


@pytest.mark.parametrize("combine", ["sum", "product"])
def test_wide_groups_are_slowed_down_like_narrow_ones(
    combine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"m{k}" for k in range(7)]
    random = np.random.default_rng(3)
    pairs = {a: {b: float(random.uniform(0.7, 1.9)) for b in names} for a in names}
    instance = Instance.from_dict(
        {
            "vm_types": [{"name": "t", "capacity": {}}],
            "models": [{"name": name, "replicas": 9} for name in names],
            "interference": {"kind": "pairwise", "combine": combine, "slowdown": {"*": pairs}},
        }
    )
    table = tables.build_interference(instance)
    groups = np.sort(random.integers(0, 7, (40, 9)), axis=1).astype(np.int32)
    groups[::3, 5:] = -1
    narrow = table.slowdown(0, groups)
    monkeypatch.setattr(tables, "WIDE", 1)
    wide = table.slowdown(0, groups)
    member = groups >= 0
    np.testing.assert_allclose(wide[member], narrow[member], rtol=1e-12)
