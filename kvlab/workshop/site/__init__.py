"""A static site: all chapters as they were executed, the games, and the findings.

``kvlab site FOLDER`` writes it. Each page stands alone: its style, pictures and games are in it,
its policy lets no request leave it, and it follows the reader's light or dark theme. So the folder
can be put anywhere, or opened from a disk.
"""
