"""The commands of `pianistid`, one noun a file; each is a thin call of the core, and a way to print its answer."""
