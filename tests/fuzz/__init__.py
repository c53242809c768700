"""Random graphs of badly behaved nodes, run by processes that are killed at random, with every value compared with its meaning."""
