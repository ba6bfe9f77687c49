"""The type of a measured row: a column name -> text or a number."""

Row = dict[str, str | int | float]
