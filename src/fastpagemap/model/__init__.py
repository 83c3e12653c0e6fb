"""What things are: entries, mappings, spans, runs, errors. No I/O."""
