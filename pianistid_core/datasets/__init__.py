"""Data sets: where they lie (root), how they arrive (importing, fetching), and how training reads them (cache)."""
