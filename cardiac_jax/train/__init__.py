"""The training loop, devices, checkpoints, optimisers and logs."""
