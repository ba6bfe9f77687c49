"""HTML report of one or more methods: tables, statistics, figures and provenance."""
