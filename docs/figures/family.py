"""The map of gradient strategies in docs/gradients.md. `python docs/figures/family.py` writes family.png.

A strategy stands in the column of what it keeps of J_t, and in the band of what stands for M_t = J_t M_{t-1} + I_t. Its
marker is the claim of the class. Numbers in grey are carried or stored for one row.
"""

import matplotlib.pyplot as plt

import seqjax as sj

WIDTH, HEIGHT = 234, 276
"""The size of the figure in points. The axes have the same coordinates, with y downwards."""
LOOK = {"exact": ("o", "black"), "unbiased": ("D", "0.6"), "biased": ("o", "white")}
"""The marker and its colour by the claim."""
ALL = 196
"""The x of the last column."""
BY_ENTRIES = [
    (18, "nothing", "0", "immediate", "immediate"),
    (44, "leak", "P", "rflo", "rflo"),
    (68, "own unit,\nfixed v", "P", "e-prop", "e-prop"),
    (93, "own\nunit", "P", "snap", "snap"),
    (115, "n hops", "H P", "snap", "snap(n)"),
    (141, "own unit,\nrank r", "r P", "sk-rtrl", "sk-rtrl"),
    (171, "own\nlayer", "$\\Sigma S_i P_i$", "layerwise", "layerwise"),
    (ALL, "all", "S P", "rtrl", "rtrl"),
]
"""The columns: x, what is kept of J_t, the numbers carried, the strategy that carries entries of M_t, and its label."""
BANDS = [
    ("a random product with the mean M", "S + P", [[(ALL, "uoro")]]),
    ("random Kronecker products", "S m", [[(ALL, "kf-rtrl")], [(ALL, "ok")]]),
    ("a learned kernel", "P", [[(ALL, "kernl")]]),
    (
        "no M: backwards in a window",
        "T S",
        [
            [(ALL, "full")],
            ["and a learned future", (ALL, "dni")],
            ["cut", (25, "last"), (47, "truncated"), (90, "k1k2"), (116, "sliding"), (152, "adaptive")],
            ["cut, and across windows (K S)", (127, "rolling")],
            ["cut and reweighted", (78, "randomized"), (127, "artbp"), (155, "learned-hazard")],
            ["made smaller", (78, "clipped"), (127, "discounted")],
        ],
    ),
    (
        "no M: forwards along directions",
        "S + P",
        [
            [(ALL, "directional")],
            ["a random direction", (ALL, "forward")],
            ["that of another strategy", (ALL, "dodge")],
            ["random ones, by losses alone", (ALL, "es")],
            ["the same, carried on", (ALL, "pes")],
        ],
    ),
]
"""What stands for M_t, the numbers that are stored, and lines of strategies, each with x."""


def draw(axes):
    """Draws the map, and returns the names in it."""
    names = []

    def text(x, y, words, **options):
        axes.text(x, y, words, **{"size": 6, "va": "center_baseline", "linespacing": 1.0} | options)

    def marker(x, y, claim):
        shape, colour = LOOK[claim]
        axes.plot(x, y, shape, color=colour, mec="black", mew=0.6, ms=4, clip_on=False)

    def put(x, y, name):
        marker(x, y, sj.create("gradient", name).claim)
        names.append(name)

    def band(top, bottom, odd):
        axes.axhspan(top, bottom, color="0.93" if odd else "white", lw=0)

    text(2, 5, "kept of $J_t$, from little to all, and numbers carried:", weight="bold")
    for x, kept, numbers, _, _ in BY_ENTRIES:
        text(x, 19, kept, ha="center")
        text(x, 33, numbers, ha="center", color="0.4")
    y = 39
    band(y, y + 44, True)
    text(2, y + 6, "M by its entries", weight="bold")
    for x, _, _, name, label in BY_ENTRIES:
        put(x, y + 17, name)
        text(x, y + 26, label, ha="center")
    text(8, y + 37, "some at random places")
    text(150, y + 37, "S P", color="0.4")
    put(171, y + 37, "sparse-rtrl")
    text(175, y + 37, "sparse-rtrl")
    y += 44
    for number, (title, numbers, lines) in enumerate(BANDS):
        height = 11 * len(lines) + 2
        band(y, y + height, number % 2)
        text(2, y + 7, title, weight="bold")
        text(150, y + 7, numbers, color="0.4")
        for row, line in enumerate(lines):
            middle = y + 7 + 11 * row
            for entry in line:
                if isinstance(entry, str):
                    text(8, middle, entry)
                else:
                    put(entry[0], middle, entry[1])
                    text(entry[0] + 4, middle, entry[1])
        y += height
    axes.axhline(y + 1, color="black", lw=0.6)
    for x, claim in zip((8, 47, 97), LOOK, strict=True):
        marker(x, y + 9, claim)
        text(x + 4, y + 9, claim)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    return names


if __name__ == "__main__":
    with plt.style.context("seqjax.report.seqjax"):
        figure = plt.figure(figsize=(WIDTH / 72, HEIGHT / 72))
        draw(figure.add_axes((0, 0, 1, 1)))
        figure.savefig("family.png", dpi=300)
