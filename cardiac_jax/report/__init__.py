"""One page that shows how methods did: tables, statistics, pictures, and where every number comes from."""
