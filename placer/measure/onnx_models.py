"""ONNX models to be measured: where they are, the inputs they take, and what they compute."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from placer.errors import InputError, PlacerError
from placer.files import read_text, write_text

CATALOGUE = "zoo.json"
OPEN_DIMENSION = 1  # for a dimension that a model leaves open and no catalogue fixes
MULTIPLY = ("Conv", "MatMul", "Gemm", "ConvTranspose", "FusedMatMul", "ConvInteger", "QLinearConv")


@dataclass(frozen=True)
class OnnxModel:
    """A model file with its static features; `shapes` fixes open dimensions of its inputs."""

    name: str
    path: Path
    features: dict[str, Any] = field(default_factory=dict, compare=False)
    shapes: dict[str, list[int]] = field(default_factory=dict, compare=False)


def read_models(folder: str | Path) -> list[OnnxModel]:
    """Return the ONNX models of a folder, by name, with their features.

    `zoo.json` beside them may give a model's family, kind and the shapes of its inputs. Raises
    InputError where there is no model, or one cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"{found}; expected a folder of .onnx files", source=str(folder))
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise InputError("has no .onnx file; expected a folder of ONNX models", source=str(folder))
    said = read_catalogue(folder)
    return [read_model(file, said.get(file.stem, {})) for file in files]


def read_catalogue(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what `zoo.json` says of each model; nothing where there is none."""
    file = folder / CATALOGUE
    if not file.exists():
        return {}
    try:
        data = json.loads(read_text(file))
    except ValueError as error:
        raise InputError(f"is not JSON: {error}", source=str(file)) from None
    if not isinstance(data, dict) or not all(isinstance(one, dict) for one in data.values()):
        raise InputError("expected an object with one object for each model", source=str(file))
    return data


def read_model(file: Path, said: dict[str, Any]) -> OnnxModel:
    """Return one model; its features are remembered in the catalogue, so they are computed once."""
    shapes = {name: [int(d) for d in size] for name, size in said.get("shapes", {}).items()}
    features = said.get("features")
    if features is None:
        features = static_features(file, shapes)
        features = {**{k: said[k] for k in ("family", "kind") if k in said}, **features}
        remember(file.parent, file.stem, {**said, "features": features})
    return OnnxModel(file.stem, file.resolve(), features, shapes)


def remember(folder: Path, name: str, said: dict[str, Any]) -> None:
    """Write what is known of a model into the folder's catalogue, where it can be written."""
    try:
        write_text(folder / CATALOGUE, json.dumps({**read_catalogue(folder), name: said}, indent=1))
    except PlacerError:
        return  # a folder that is not ours to write is measured all the same


def static_features(file: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Return what can be read off a model's graph, for one request.

    parameters_m (millions), gflops (2 x multiply-adds of convolutions and matrix products),
    weights_mib, activation_mib (all outputs of all nodes), nodes, conv_share and matmul_share (of
    gflops). Raises InputError where the file is no ONNX model.
    """
    import onnx

    try:
        model = onnx.load(str(file))
        fix_dimensions(model, shapes)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"cannot be read as an ONNX model: {text}", source=str(file)) from None
    graph = model.graph
    constants = weights_of(graph)
    known = {name: list(tensor.dims) for name, tensor in constants.items()}
    numbers = [float(np.prod(one.dims, dtype=float)) for one in constants.values()]
    sizes = [n * item_bytes(w.data_type) for n, w in zip(numbers, constants.values(), strict=True)]
    for value in (*graph.value_info, *graph.output, *graph.input):
        dims = value.type.tensor_type.shape.dim
        known[value.name] = [d.dim_value or OPEN_DIMENSION for d in dims]
    work: defaultdict[str, float] = defaultdict(float)
    written = 0.0
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        written += sum(float(np.prod(known.get(out, [0]))) for out in node.output)
        work[node.op_type] += multiply_adds(node, known)
    total = max(float(sum(work.values())), 1.0)
    conv = sum(v for op, v in work.items() if "Conv" in op)
    return {
        "parameters_m": sum(numbers) / 1e6,
        "gflops": 2e-9 * total,
        "weights_mib": sum(sizes) / 2**20,
        "activation_mib": 4 * written / 2**20,
        "nodes": len(graph.node),
        "conv_share": conv / total,
        "matmul_share": 1.0 - conv / total,
    }


def weights_of(graph: Any) -> dict[str, Any]:
    """Return the tensors of a graph that are part of the model, initializers and constants."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    return found


def item_bytes(data_type: int) -> int:
    """Return the bytes of one number of an ONNX tensor type."""
    from onnx import TensorProto

    one, two, eight = (
        {TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL},
        {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT16, TensorProto.UINT16},
        {TensorProto.INT64, TensorProto.UINT64, TensorProto.DOUBLE},
    )
    return 1 if data_type in one else 2 if data_type in two else 8 if data_type in eight else 4


def fix_dimensions(model: Any, shapes: dict[str, list[int]]) -> None:
    """Give the inputs the shapes that they are measured with; an open dimension becomes 1."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for place, dim in enumerate(dims):
            size = shapes.get(value.name)
            if size is not None and place < len(size):
                dim.dim_value = size[place]
            elif not dim.HasField("dim_value"):
                dim.dim_value = OPEN_DIMENSION


def multiply_adds(node: Any, known: dict[str, list[int]]) -> float:
    """Return the multiply-adds of a convolution or a matrix product, 0 for other nodes."""
    if node.op_type not in MULTIPLY:
        return 0.0
    made = float(np.prod(known.get(node.output[0], [0]), dtype=float))
    if "Conv" in node.op_type:
        weight = known.get(node.input[1], [1, 1])
        return made * float(np.prod(weight[1:], dtype=float))
    shared = known.get(node.input[0], [1]) or [1]
    if node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute):
        return made * shared[0]
    return made * shared[-1]
