"""A node with as much in it as a large site has, and how long its lists take."""
