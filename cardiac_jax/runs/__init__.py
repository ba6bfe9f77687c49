"""Complete runs in a work directory: training, restoring, evaluation, prediction, studies. Called by the commands."""
