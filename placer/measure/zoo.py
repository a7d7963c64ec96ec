"""Real architectures that `placer measure --zoo` builds as ONNX models with random weights.

Latency depends on the architecture and the input's shape, not on the values of the weights.
Building needs the extra `zoo` (torch, transformers); measuring what was built does not.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path
from typing import Any

from placer.errors import UsageError, near_name
from placer.measure.onnx_models import remember

OPSET = 18


@dataclass(frozen=True)
class Architecture:
    """One architecture: a configuration of the transformers package and the shape of its input.

    `model` and `config` are class names in transformers; `inputs` maps an input to its shape and
    to the number of different tokens it may hold (0: real numbers).
    """

    name: str
    family: str
    kind: str
    model: str
    config: str
    inputs: Mapping[str, tuple[tuple[int, ...], int]]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shipped:
    """An ONNX model with trained weights that a package carries in one of its files."""

    name: str
    family: str
    kind: str
    package: str
    file: str
    shapes: Mapping[str, list[int]]


def _image(size: int) -> dict[str, tuple[tuple[int, ...], int]]:
    return {"pixel_values": ((1, 3, size, size), 0)}


def _text(length: int, words: int = 1000) -> dict[str, tuple[tuple[int, ...], int]]:
    return {"input_ids": ((1, length), words)}


def _vision(
    name: str, family: str, kind: str, prefix: str, size: int, **options: Any
) -> Architecture:
    if kind == "vision-transformer":
        options = {"image_size": size, **options}
    return Architecture(
        name, family, kind, f"{prefix}Model", f"{prefix}Config", _image(size), options
    )


def _language(name: str, family: str, prefix: str, length: int, **options: Any) -> Architecture:
    return Architecture(
        name,
        family,
        "text-transformer",
        f"{prefix}Model",
        f"{prefix}Config",
        _text(length),
        options,
    )


ARCHITECTURES = (
    _vision(
        "resnet18", "resnet", "cnn", "ResNet", 160,
        layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512],
    ),
    _vision("resnet50", "resnet", "cnn", "ResNet", 160),
    _vision("mobilenet_v1", "mobilenet", "cnn", "MobileNetV1", 224),
    _vision("mobilenet_v2", "mobilenet", "cnn", "MobileNetV2", 224),
    _vision(
        "efficientnet_b0", "efficientnet", "cnn", "EfficientNet", 224,
        width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, image_size=224,
    ),
    _vision(
        "regnet_y_002", "regnet", "cnn", "RegNet", 224,
        hidden_sizes=[24, 56, 152, 368], depths=[1, 1, 4, 7], groups_width=8,
    ),
    _vision("convnext_tiny", "convnext", "cnn", "ConvNext", 96),
    _vision(
        "convnextv2_atto", "convnext", "cnn", "ConvNextV2", 128,
        hidden_sizes=[40, 80, 160, 320], depths=[2, 2, 6, 2],
    ),
    _vision("poolformer_s12", "poolformer", "cnn", "PoolFormer", 128, depths=[2, 2, 6, 2]),
    _vision(
        "vit_small", "vit", "vision-transformer", "ViT", 112,
        hidden_size=384, num_attention_heads=6, intermediate_size=1536,
    ),
    _vision(
        "deit_tiny", "deit", "vision-transformer", "DeiT", 224,
        hidden_size=192, num_attention_heads=3, intermediate_size=768,
    ),
    _vision(
        "dinov2_small", "dinov2", "vision-transformer", "Dinov2", 98,
        hidden_size=384, num_attention_heads=6,
    ),
    _vision("segformer_b0", "segformer", "vision-transformer", "Segformer", 128),
    _vision("mobilevit_small", "mobilevit", "vision-transformer", "MobileViT", 128),
    _language("bert_base", "bert", "Bert", 16),
    _language(
        "minilm_l6", "bert", "Bert", 64,
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
    ),
    _language(
        "bert_mini", "bert", "Bert", 128,
        hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024,
    ),
    _language("distilbert", "distilbert", "DistilBert", 24),
    _language(
        "albert_base", "albert", "Albert", 16,
        hidden_size=768, num_attention_heads=12, intermediate_size=3072,
    ),
    _language("electra_small", "electra", "Electra", 64),
    _language("mobilebert", "mobilebert", "MobileBert", 32),
    _language("squeezebert", "squeezebert", "SqueezeBert", 32),
    _language("distilgpt2", "gpt2", "GPT2", 16, n_layer=6, use_cache=False),
    Architecture(
        "t5_small", "t5", "text-transformer", "T5EncoderModel", "T5Config", _text(48)
    ),
    Architecture(
        "whisper_tiny", "whisper", "audio-transformer",
        "models.whisper.modeling_whisper.WhisperEncoder", "WhisperConfig",
        {"input_features": ((1, 80, 300), 0)},
        {"max_source_positions": 150},
    ),
    Architecture(
        "wav2vec2_small", "wav2vec2", "audio-transformer", "Wav2Vec2Model", "Wav2Vec2Config",
        {"input_values": ((1, 8000), 0)},
        {"num_hidden_layers": 6, "hidden_size": 384, "num_attention_heads": 6,
         "intermediate_size": 1536, "conv_dim": (256,) * 7, "mask_time_prob": 0.0},
    ),
    Architecture(
        "ast_small", "ast", "audio-transformer", "ASTModel", "ASTConfig",
        {"input_values": ((1, 96, 128), 0)},
        {"max_length": 96, "hidden_size": 384, "num_attention_heads": 6,
         "intermediate_size": 1536, "num_hidden_layers": 6},
    ),
)  # fmt: skip

SHIPPED = (
    Shipped("magika", "magika", "cnn", "magika", "models/standard_v3_3/model.onnx", {}),
    Shipped(
        "ocr_detection", "ppocr", "cnn", "rapidocr_onnxruntime",
        "models/ch_PP-OCRv4_det_infer.onnx", {"x": [1, 3, 160, 160]},
    ),
    Shipped(
        "ocr_recognition", "ppocr", "cnn", "rapidocr_onnxruntime",
        "models/ch_PP-OCRv4_rec_infer.onnx", {"x": [1, 3, 48, 160]},
    ),
    Shipped(
        "ocr_direction", "ppocr", "cnn", "rapidocr_onnxruntime",
        "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {"x": [1, 3, 48, 192]},
    ),
)  # fmt: skip


def zoo_folder() -> Path:
    """Return the folder where this user's copy of the zoo is kept between commands."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "placer" / "zoo"


def names() -> list[str]:
    """Return the names of all models of the zoo."""
    return [one.name for one in (*ARCHITECTURES, *SHIPPED)]


def build_zoo(
    folder: str | Path,
    chosen: Sequence[str] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Path:
    """Write the zoo's models as ONNX files with their catalogue; what is there already stays.

    `chosen` are names, all where None. Raises UsageError for an unknown name or where the
    packages that build a model are not installed.
    """
    folder = Path(folder)
    wanted = names() if chosen is None else list(chosen)
    for name in wanted:
        if name not in names():
            raise UsageError(f"the zoo has no model {name!r}{near_name(name, names())}")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in (*ARCHITECTURES, *SHIPPED) if one.name in wanted
               and not (folder / f"{one.name}.onnx").exists()]  # fmt: skip
    need_packages(missing)
    for place, one in enumerate(missing, 1):
        if on_progress is not None:
            on_progress(f"building {one.name} ({place} of {len(missing)})")
        said: dict[str, Any] = {"family": one.family, "kind": one.kind}
        if isinstance(one, Architecture):
            export(one, folder / f"{one.name}.onnx")
            said["made"] = f"random weights, {one.config} of transformers"
        else:
            place_of(one, folder / f"{one.name}.onnx")
            said |= {"made": f"weights as the package {one.package} ships them"}
            said["shapes"] = {name: list(size) for name, size in one.shapes.items()}
        remember(folder, one.name, said)
    return folder


def need_packages(missing: Sequence[Architecture | Shipped]) -> None:
    """Raise UsageError where a package that some of the models come from is not installed."""
    wanted = {"torch", "transformers", "onnxscript"} if any(
        isinstance(one, Architecture) for one in missing
    ) else set()  # fmt: skip
    wanted |= {one.package for one in missing if isinstance(one, Shipped)}
    absent = sorted(name for name in wanted if util.find_spec(name) is None)
    if absent:
        raise UsageError(
            f"building the zoo needs {', '.join(absent)}; install them with: "
            "python -m pip install 'placer[zoo]'"
        )


def export(architecture: Architecture, file: Path) -> None:
    """Build the architecture with random weights from a fixed seed and write it as ONNX."""
    import logging
    import warnings
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, architecture.config)(**architecture.options)
    config._attn_implementation = "eager"
    path, _, name = architecture.model.rpartition(".")
    module = import_module(f"transformers.{path}") if path else transformers
    model = getattr(module, name)(config).eval()
    values = {
        name: torch.randint(0, tokens, size) if tokens else torch.randn(size)
        for name, (size, tokens) in architecture.inputs.items()
    }

    class First(torch.nn.Module):
        """The model with its first output alone."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return self.model(**dict(zip(values, inputs, strict=True)))[0]

    logging.disable(logging.WARNING)
    temporary = file.with_suffix(".part")
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                First(), tuple(values.values()), str(temporary), input_names=list(values),
                dynamo=True, external_data=False, opset_version=OPSET,
            )  # fmt: skip
        temporary.replace(file)
    finally:
        logging.disable(logging.NOTSET)
        temporary.unlink(missing_ok=True)


def place_of(shipped: Shipped, file: Path) -> None:
    """Copy a model file out of the package that carries it."""
    found = util.find_spec(shipped.package)
    assert found is not None
    assert found.submodule_search_locations
    source = Path(found.submodule_search_locations[0]) / shipped.file
    if not source.exists():
        raise UsageError(
            f"the installed package {shipped.package} has no {shipped.file}; another release of it "
            f"may, or leave {shipped.name} out"
        )
    temporary = file.with_suffix(".part")
    shutil.copyfile(source, temporary)
    temporary.replace(file)
