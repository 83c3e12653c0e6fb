"""The types of everything else: entries, mappings, spans, runs, errors. No I/O."""
