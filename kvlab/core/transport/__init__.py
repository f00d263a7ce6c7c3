"""How commands reach a server: connections, the pool that keeps them, and the server's health."""
