"""Colours that stay apart: Okabe and Ito's, then Paul Tol's muted set, both for colour-blind readers, then more."""

from __future__ import annotations

# Okabe and Ito (2008), https://jfly.uni-koeln.de/color/ without black, which vanishes on a scan; Tol (2021), muted;
# from the third line on each lies as far as can be from all before it in CIELAB, and none is very dark or grey
_HEX = """
#56b4e9 #e69f00 #009e73 #cc79a7 #f0e442 #d55e00 #0072b2
#88ccee #ddcc77 #44aa99 #aa4499 #999933 #cc6677 #332288 #117733 #882255
#00ff00 #0000ff #ff11ff #99ff88 #ff0044 #8855ff #774411 #ff0099 #aa99ff #bbff00 #00aa00 #00ffcc #990011 #ee77ff
#ffaa88 #bbeebb #66ffff #0077ff #9900aa #ff3300 #554477 #cc0055 #445500 #aa00ff #88bb00 #ee6655 #77bb66 #aa8855
#ffaaff #00ff77 #773333 #8855cc #ff11cc #3399ff #ddff99 #448800 #bb7722 #ff66cc #00cc77 #77ee44 #2222dd #668855
#115533 #ffaabb #ccff66 #ff6699 #bbbbff #6666bb #ffbb66 #bb0077 #ffff00 #2244cc #bb6644 #cc0011 #bbaa00 #ffffbb
#00ddff #8800cc #cc44ee #776600 #1199aa #ffcc00 #aacc55 #66ddbb #9966aa #eebbee #994400 #cc22aa #991133 #ff8800
#cc77dd #772288 #99ffbb #6622aa #009933 #aabb77 #55cc55 #ff88cc #ff9955 #0055ff #007766 #004499 #ffdd66 #ff8888
#aa8811 #00ffaa #ffcc99 #ff4466 #ff0077 #77bb88 #bbdd00 #ff5533 #00cccc #668833 #88ff11 #7799dd #995577 #cc0033
#773377 #00dd11 #bb77ff #cc5588 #cc4422 #888844 #115500 #aa44bb #00cc99 #7777ee #cc4455 #ff6600 #779900 #ffff88
"""
PALETTE = tuple(_HEX.split())


def class_colour(label: int) -> str:
    """Hex colour of a foreground label (1, 2, ...); the palette of 128 starts again after its last colour.

    >>> class_colour(1)
    '#56b4e9'
    >>> class_colour(1) == class_colour(1 + len(PALETTE))
    True
    """
    return PALETTE[(label - 1) % len(PALETTE)]


def class_rgb(label: int) -> tuple[int, int, int]:
    """Red, green and blue of a label, 0 to 255; black for the background, 0.

    >>> class_rgb(1), class_rgb(0)
    ((86, 180, 233), (0, 0, 0))
    """
    red, green, blue = bytes.fromhex(class_colour(label)[1:]) if label else (0, 0, 0)
    return red, green, blue
