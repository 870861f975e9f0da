"""The model class that ``label-studio-ml`` looks for."""

from sam3_backend.label_studio.ml_sdk import Sam3Model

__all__ = ["Sam3Model"]
