"""How questions about pages are answered."""
