"""Files of an evaluation: measuring, writing and reading them."""
