"""Loss transforms, and the passes of a coarse-to-fine cascade."""
