"""The colours of the workbook, for light and dark themes alike.

Every colour stands out from white and from JupyterLab's dark background (#111111) by a contrast of
3.4 or more; a text colour can reach 4.35 on both at most. The hues are near Okabe and Ito's, which
colour-blind readers can tell apart.
"""

INK, FAINT = "#7a7a7a", "#8a8a8a"
GRID, IDLE = "#8a8a8a40", "#8a8a8a80"
"""With an alpha: the grid, and what waits or stands aside, such as a client outside a lock."""
COLOURS = {
    "naive": "#D55E00",
    "hardened": "#1A7DC0",
    "theory": INK,
    "limit": INK,
    "hit": "#008F68",
    "miss": "#BB5F94",
    "Valkey": "#1A7DC0",
    "Redis": "#D55E00",
    "fakeredis": "#008F68",
}
TINTS, ON_TINT = {"naive": "#F3D2B9", "hit": "#B9E0D5", "none": "#DFE2E6"}, "#1C2026"
"""Opaque fillings, and the ink of words on them: as readable on a dark page as on a white one."""
OTHERS = ("#008F68", "#BB5F94", "#A87400", "#8467D7")
