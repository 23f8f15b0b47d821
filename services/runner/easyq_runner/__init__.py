"""The runner: one agent for one Docker host. It runs containers, streams their output and reports how they ended."""
