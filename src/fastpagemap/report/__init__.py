"""Reports, tables, files and pictures, made from data. Nothing here opens a process."""
