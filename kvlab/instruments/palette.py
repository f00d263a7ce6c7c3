"""The colours of the workbook: Okabe and Ito's, which colour-blind readers can tell apart."""

INK, FAINT = "#222222", "#8a8a8a"
COLOURS = {
    "naive": "#D55E00",
    "hardened": "#0072B2",
    "theory": INK,
    "limit": INK,
    "hit": "#009E73",
    "miss": "#CC79A7",
    "Valkey": "#0072B2",
    "Redis": "#D55E00",
    "fakeredis": "#009E73",
}
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
