"""An operation is data, and how it reaches a server: ops, flows, executors, connections."""
