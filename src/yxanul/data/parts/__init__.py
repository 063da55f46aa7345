"""What many tasks write of a source, file by file, and how it is read as that source."""
