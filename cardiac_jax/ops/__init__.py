"""Operations on arrays: convolution, pooling, geometry, resampling, regions of interest, intensities."""
