"""States of all pages, kept: saved, loaded, compared."""
