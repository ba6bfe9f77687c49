"""The anatomical guarantee: what is valid, how it is checked, learnt, projected onto and drawn (ACSNet, stage 3)."""
