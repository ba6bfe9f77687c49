"""Cardiac MR segmentation with shape priors in JAX.

    model = cardiac_jax.load("RUN")                 # a training run, or several: an ensemble
    found = model.predict("patient1.nii.gz")        # .labels, .probabilities, .volume_ml("LV"), .save(...)

Names are imported when they are first used; everything else is in the folders (`docs/architecture.md`).
"""

import importlib
from typing import Any

_HOMES = {
    "load": "runs.model",
    "Model": "runs.model",
    "Segmentation": "runs.model",
    "train_run": "runs.train",
    "evaluate": "runs.evaluate",
    "evaluate_maps": "runs.evaluate",
    "experiment": "runs.experiments",
    "build_system": "systems",
    "register_system": "systems",
    "register_net": "nets.registry",
    "NetRequest": "nets.registry",
    "register_term": "transforms.registry",
    "Term": "transforms.registry",
    "TermRequest": "transforms.registry",
    "register_dataset": "data.sets",
    "Dataset": "data.case",
    "Record": "data.case",
    "Stack": "data.stack",
    "DataSpec": "data.spec",
    "label_decoder": "inference.postprocess",
    "System": "core.types",
    "Stage": "core.types",
    "Stream": "core.types",
    "Phase": "core.types",
    "Objective": "core.types",
    "Output": "core.types",
    "Net": "core.types",
    "InputError": "errors",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cardiac_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cardiac_jax.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
