"""Numbers about one case or a cohort; knows no files and draws nothing."""
