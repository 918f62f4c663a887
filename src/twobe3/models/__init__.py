"""Models under one protocol; importing this package registers them all."""

from twobe3.features.backbones import BACKBONES
from twobe3.models.baseline import Baseline
from twobe3.models.cnn2d import CNN2D
from twobe3.models.cnn3d import CNN3D
from twobe3.models.fusion import Fusion
from twobe3.models.model import Model
from twobe3.models.pooled import PooledModel
from twobe3.models.radiomics import RadiomicsModel
from twobe3.models.registry import MODELS, load_model, read_card
from twobe3.models.registry import load_model as load
from twobe3.models.spatial import SpatialModel
from twobe3.models.twobe3net import TwoBe3Net

__all__ = [
    "BACKBONES", "CNN2D", "CNN3D", "MODELS", "Baseline", "Fusion", "Model", "PooledModel", "RadiomicsModel",
    "SpatialModel", "TwoBe3Net", "load", "load_model", "read_card",
]  # fmt: skip
