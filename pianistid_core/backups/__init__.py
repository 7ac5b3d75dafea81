"""A data root, or some of its runs, in one archive, and back: packed, checked, restored elsewhere with the same bytes.

`packing.write_backup` makes one, `opening.check_backup` reads it through, `restoring.restore` brings it into a root.
"""
