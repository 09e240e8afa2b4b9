"""What notebooks show: counts, tables and pictures, and the tools of analysts."""
