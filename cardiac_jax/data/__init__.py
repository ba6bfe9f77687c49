"""Data: reading and writing cases, data sets, grids, splits, augmentation, batches."""
