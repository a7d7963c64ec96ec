"""Small ONNX models for the tests that measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper, parser


def write_models(folder: Path, widths: dict[str, int]) -> Path:
    """Write one model for each name: two products of square matrices of that width."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, width in widths.items():
        model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
            {name} (float[n,{width}] x) => (float[n,{width}] y)
            {{ h = MatMul(x, w)
               y = MatMul(h, w) }}""")
        values = np.random.default_rng(0).normal(size=(width, width)).astype(np.float32) / width
        model.graph.initializer.append(numpy_helper.from_array(values, "w"))
        onnx.save(model, str(folder / f"{name}.onnx"))
    return folder
