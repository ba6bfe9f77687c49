"""Autoencoder of volumetric label maps of ACNN (Oktay et al. 2018, table V)."""

from collections.abc import Sequence

from cardiac_jax.nets.coder import Coder
from cardiac_jax.nets.layers import Conv, ConvTranspose
from cardiac_jax.ops.conv import Size, per_axis

AE_SEG = (5, 10, 20)
"""Widths of the second network of the cascade AE-Seg: 0.08 million parameters, which its text gives."""
AE_SEG_M = (12, 24, 48)
"""Widths of the second network of AE-Seg-M: 0.33 million parameters (table I: 1.91 less the segmenter's 1.60)."""


class ShapeAutoencoder(Coder):
    """Label map [B, *size, K], one-hot or soft -> (logits [B, *size, K], code [B, code]), float32 or wider.

    Encoder: for each width in `features`, convolutions (kernel 3) of that stage's stride and of stride 1; a
    convolution (kernel 3) of the last stride to one channel; a linear layer to the code. Decoder: a linear layer to
    the same small map; for each stage, from the last, a transposed convolution and a convolution (kernel 3), of which
    the last has `classes` channels. Along an axis of stride s a transposed convolution has kernel 3 s - 2: 7, 4 or 1.
    Batch normalisation and ReLU follow every layer except the code and the last layer. At 60 x 120 x 120 the small
    map is 5 x 5 x 5. For other sizes the decoder's output is cropped about the centre: 32 -> 3 -> 36 -> 32.

    Attributes:
      strides: of each stage and of the convolution to one channel, one more than `features`.
    """

    size: Sequence[int] = (60, 120, 120)
    classes: int = 3
    strides: Sequence[Size] = ((1, 2, 2), 2, 2, 3)

    def setup(self) -> None:
        decoder: list[Conv | ConvTranspose] = []
        widths = (self.features[0], *self.features)
        for level in reversed(range(len(widths))):
            stride = per_axis(self.strides[level], len(self.size))
            kernel = tuple(3 * s - 2 for s in stride)
            decoder.append(ConvTranspose(widths[level], kernel, stride, bias=False, dtype=self.dtype))
            if level:
                decoder.append(Conv(widths[level], 3, bias=False, dtype=self.dtype))
        self.set_layers(self.strides, decoder)
