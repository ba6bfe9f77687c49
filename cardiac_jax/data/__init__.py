"""Cases on their way from file to batch, and back: reading, grids, splits, augmentation, data sets."""
