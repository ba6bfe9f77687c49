"""Networks, composed of the blocks in `cardiac_jax.nets.blocks`."""

from cardiac_jax.nets.autoencoder import Autoencoder
from cardiac_jax.nets.discriminator import Discriminator
from cardiac_jax.nets.predictor import PositionHead, flatten, global_average
from cardiac_jax.nets.unet import UNet

__all__ = ["Autoencoder", "Discriminator", "PositionHead", "UNet", "flatten", "global_average"]
