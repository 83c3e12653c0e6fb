"""The full-screen view: what is sampled, what is shown of it, and the screen, in that order."""
