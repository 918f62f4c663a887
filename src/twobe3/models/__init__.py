"""Models under one protocol; importing this package registers them all."""

from twobe3.models.base import MODELS, Model, load_model
from twobe3.models.cnn3d import CNN3D
from twobe3.models.controls import Control
from twobe3.models.fusion import Fusion
from twobe3.models.pooled import PooledFeatures
from twobe3.models.radiomics import Radiomics
from twobe3.models.twobe3net import CNN2D, TwoBe3Net

__all__ = [
    "CNN2D", "CNN3D", "MODELS", "Control", "Fusion", "Model", "PooledFeatures", "Radiomics", "TwoBe3Net", "load_model",
]  # fmt: skip
