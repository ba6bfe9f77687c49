"""Loss functions of one example, without a batch axis."""
