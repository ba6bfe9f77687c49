"""The theory: values, passes, losses, objectives, phases, stages, systems, and the training step."""
