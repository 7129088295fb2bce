"""Backbones on a haloed tile. A network may do inside its tile what it likes; it never communicates."""

from halocline.flow.networks.transformer import Transformer, TransformerConfig
from halocline.flow.networks.unet import UNet, UNetConfig

__all__ = ["Transformer", "TransformerConfig", "UNet", "UNetConfig"]
