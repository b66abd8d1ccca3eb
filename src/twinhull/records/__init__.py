"""The replicated values and their merge rules: pure functions over frozen values, without I/O."""
