"""How what was collected is shown: rows, tables, files, pictures. Nothing here opens a process."""
