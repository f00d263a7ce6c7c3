"""What the chapter on stores behind HTTPS needs."""
