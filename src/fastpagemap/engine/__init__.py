"""How questions about pages are answered: survey what is mapped, then walk over it."""
