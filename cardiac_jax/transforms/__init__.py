"""Loss transforms, and the passes of a cascade."""
