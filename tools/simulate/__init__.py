"""A seeded simulation: the real replication code of several nodes in one process, with simulated time, network and disks."""
