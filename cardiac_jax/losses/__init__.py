"""Leaf maths of losses: one example, no batch axis."""
