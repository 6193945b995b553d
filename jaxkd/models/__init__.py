"""Architectures, one a file, for students and teachers alike."""
