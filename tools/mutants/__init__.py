"""Takes one rule of merging out of the program at a time, and holds that the tests notice."""
