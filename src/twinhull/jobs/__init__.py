"""Jobs: work that a node does in the background, in tasks that are written down as records where every node can read them."""
