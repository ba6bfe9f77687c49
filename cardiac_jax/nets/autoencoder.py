"""Autoencoder of label maps: the shape prior of SRSCN (Yue et al. 2019, section 2.2) and of its ACNN baseline."""

from collections.abc import Sequence

from cardiac_jax.nets.coder import Coder
from cardiac_jax.nets.layers import ConvTranspose


class Autoencoder(Coder):
    """Label map [B, *size, K], one-hot or soft -> (logits [B, *size, K], code [B, code]), float32 or wider.

    Encoder: for each width in `features`, convolutions (kernel 3) of stride 2 and of stride 1; then a convolution
    (kernel 3) of `stride` to one channel, and a linear layer to the code. Decoder: a linear layer to the same small
    map, a transposed convolution (kernel 7) of `stride`, transposed convolutions (kernel 4) of stride 2, and a
    convolution (kernel 3) to `classes`. Batch normalisation and ReLU follow every layer except the code and the last
    layer. A decoder output larger than `size` is cropped about the centre: with stride 3, 240 -> 10 -> 240 needs no
    crop, and 128 -> 6 -> 144 is cropped to 128.
    """

    size: Sequence[int] = (240, 240)
    stride: int = 3

    def setup(self) -> None:
        first, *rest = (*self.features[::-1], self.features[0])
        decoder = [
            ConvTranspose(first, 7, self.stride, bias=False, dtype=self.dtype),
            *(ConvTranspose(w, 4, 2, bias=False, dtype=self.dtype) for w in rest),
        ]
        self.set_layers((*(2,) * len(self.features), self.stride), decoder)
