"""The reference adult: every organ's place, size and FDG uptake, as tables.

Positions are LPS mm of a person of 172 cm and 72 kg: x to the patient's left, y to the back, z up from the vertex (so
negative). Uptake is SUV by body weight one hour after injection, within the usual clinical ranges. Rows stand in
painter's order: a later organ covers an earlier one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from twobe3.phantom.shapes import Ellipsoid, Node, Vector

Arms = Literal["up", "down"]

HEIGHT_M, WEIGHT_KG = 1.72, 72.0
HEAD_ENDS_MM = -240.0

UPTAKE: dict[str, tuple[float, float]] = {  # tissue: median SUV, standard deviation of its logarithm
    "fat": (0.25, 0.20),
    "muscle": (0.75, 0.13),
    "lung": (0.34, 0.12),
    "bone": (0.55, 0.15),
    "marrow": (1.30, 0.20),
    "spongiosa": (1.0, 0.15),
    "blood": (1.50, 0.15),
    "myocardium": (2.0, 0.35),
    "liver": (2.15, 0.15),
    "spleen": (1.75, 0.15),
    "stomach": (1.9, 0.25),
    "cortex": (2.6, 0.20),
    "urine": (5.0, 0.30),
    "bladder": (14.0, 0.55),
    "bowel": (1.2, 0.20),
    "grey matter": (9.5, 0.20),
    "white matter": (4.2, 0.15),
    "gland": (1.9, 0.25),
    "oral": (2.3, 0.30),
    "breast": (0.60, 0.20),
}


class Row(NamedTuple):
    """An organ of the reference person; ``paired`` adds its mirror image."""

    name: str
    tissue: str
    centre: Vector
    radii: Vector
    tilt: float = 0.0
    paired: bool = False


HEAD = (
    Row("skull", "bone", (0, 3, -82), (68, 86, 70)),
    Row("grey matter", "grey matter", (0, 4, -78), (62, 78, 56)),
    Row("white matter", "white matter", (24, 2, -72), (17, 52, 26), -8, True),
    Row("basal ganglia", "grey matter", (17, -4, -84), (10, 22, 12), 0, True),
    Row("ventricle", "muscle", (6, 6, -70), (5, 24, 8), 0, True),
    Row("cerebellum", "grey matter", (22, 44, -128), (26, 26, 18), 0, True),
    Row("brain stem", "white matter", (0, 24, -135), (11, 12, 24)),
    Row("orbit", "oral", (32, -74, -112), (9, 12, 9), 0, True),
    Row("sinus", "lung", (24, -58, -142), (14, 18, 16), 0, True),
    Row("parotid", "gland", (52, 8, -170), (11, 16, 22), 0, True),
    Row("submandibular", "gland", (26, -28, -216), (9, 13, 10), 0, True),
    Row("tonsil", "oral", (15, -14, -188), (7, 8, 11), 0, True),
    Row("tongue", "oral", (0, -44, -196), (22, 28, 14)),
)
TRUNK = (
    Row("larynx", "gland", (0, -26, -272), (9, 7, 11)),
    Row("trachea", "lung", (0, -18, -325), (8, 8, 75)),
    Row("thyroid", "gland", (15, -24, -302), (8, 8, 17), 0, True),
    Row("mediastinum", "blood", (4, -18, -415), (34, 46, 66)),
    Row("aortic arch", "blood", (14, -4, -388), (22, 34, 16)),
    Row("hilum", "blood", (38, 4, -425), (19, 16, 26), 0, True),
    Row("heart", "blood", (24, -38, -486), (54, 44, 52), -35),
    Row("left ventricle", "myocardium", (44, -42, -496), (34, 32, 45), -48),
    Row("left cavity", "blood", (37, -40, -490), (20, 19, 37), -48),
    Row("liver", "liver", (-72, -2, -570), (74, 76, 88), 12),
    Row("liver tip", "liver", (-100, 8, -640), (40, 52, 62), -4),
    Row("left lobe", "liver", (10, -48, -548), (66, 34, 36), -68),
    Row("gallbladder", "muscle", (-52, -42, -640), (13, 16, 24), 12),
    Row("stomach", "stomach", (56, -38, -584), (34, 32, 56), 24),
    Row("stomach content", "muscle", (57, -38, -580), (22, 20, 44), 24),
    Row("spleen", "spleen", (104, 48, -562), (24, 42, 52), -16),
    Row("pancreas", "stomach", (22, -8, -628), (58, 14, 15), 66),
    Row("kidney", "cortex", (64, 44, -660), (27, 24, 54), -12, True),
    Row("calyx", "urine", (53, 38, -662), (8, 8, 20), -12, True),
    Row("sacrum", "marrow", (0, 72, -800), (48, 20, 46)),
    Row("iliac wing", "spongiosa", (84, 44, -778), (11, 46, 62), 28, True),
    Row("acetabulum", "spongiosa", (80, 18, -852), (22, 28, 26), 0, True),
    Row("ischium", "bone", (56, 34, -898), (15, 20, 28), 0, True),
    Row("femoral head", "bone", (92, 2, -862), (23, 23, 23), 0, True),
    Row("bladder", "bladder", (0, -30, -862), (36, 30, 28)),
)
SHOULDERS = (
    Row("humeral head", "spongiosa", (166, 10, -352), (21, 21, 24), 0, True),
    Row("scapula", "spongiosa", (118, 66, -385), (20, 7, 44), 14, True),
    Row("clavicle", "spongiosa", (78, -32, -326), (62, 7, 7), -14, True),
)
BREAST = Row("breast", "breast", (80, -88, -462), (56, 38, 50), 0, True)
COLON: tuple[Vector, ...] = (
    (-92, -6, -770), (-100, 4, -725), (-98, 4, -690), (-70, -52, -672), (-30, -68, -690), (15, -70, -692),
    (60, -58, -665), (104, 6, -640), (112, 20, -690), (112, 20, -740), (94, 2, -785), (52, 12, -800), (12, 34, -822),
)  # fmt: skip
BOWEL_BED = Ellipsoid((0, -38, -735), (82, 34, 62))

HEAD_OUTLINE = Ellipsoid((0, 2, -96), (75, 95, 97))
NECK = (
    (-70, 0, -20, 60, 68), (-140, 0, -14, 60, 72), (-190, 0, -10, 58, 70), (-228, 0, 2, 52, 62), (-262, 0, 14, 55, 57),
    (-300, 0, 16, 66, 62),
)  # fmt: skip
TORSO = (
    (-272, 0, 18, 52, 52), (-300, 0, 20, 78, 60), (-318, 0, 20, 122, 66), (-340, 0, 18, 160, 76),
    (-372, 0, 10, 176, 92), (-420, 0, 4, 170, 106), (-500, 0, 0, 160, 113), (-580, 0, 0, 153, 112),
    (-650, 0, -4, 146, 107), (-710, 0, 0, 150, 108), (-780, 0, 12, 168, 112),
    (-850, 0, 22, 179, 117), (-905, 0, 26, 178, 113), (-925, 0, 26, 176, 108),
)  # fmt: skip
THIGH = ((-850, 84, 18, 74, 90), (-915, 91, 20, 87, 100), (-1000, 92, 14, 82, 90), (-1100, 90, 10, 74, 80))
LUNG_RIGHT = (
    (-318, -46, 20, 14, 20), (-345, -58, 14, 33, 42), (-400, -76, 8, 48, 68), (-470, -84, 4, 56, 82),
    (-530, -86, 6, 58, 86), (-585, -84, 30, 52, 60),
)  # fmt: skip
LUNG_LEFT = (
    (-318, 46, 20, 14, 20), (-345, 58, 14, 33, 42), (-400, 78, 8, 47, 68), (-470, 88, 6, 52, 82),
    (-530, 92, 12, 51, 80), (-575, 92, 34, 46, 56),
)  # fmt: skip
SPINE = (
    (-165, 0, 22, 9, 10), (-235, 0, 26, 11, 11), (-310, 0, 40, 14, 13), (-420, 0, 64, 16, 16), (-540, 0, 62, 19, 18),
    (-660, 0, 44, 22, 20), (-765, 0, 46, 24, 21),
)  # fmt: skip
STERNUM = ((-352, 0, -40, 14, 6), (-420, 0, -76, 12, 6), (-500, 0, -88, 10, 6))
AORTA = ((-385, 22, 34, 12, 12), (-500, 16, 40, 12, 12), (-620, 10, 20, 10, 10), (-745, 4, 20, 9, 9))
CAVA = ((-560, -18, 22, 10, 10), (-745, -16, 24, 9, 9))
ILIACS = ((-745, 8, 18, 8, 8), (-800, 46, 16, 7, 7), (-880, 84, -46, 7, 7), (-1100, 80, -34, 6, 6))
FEMUR = ((-862, 108, 12, 14, 14), (-900, 122, 14, 15, 15), (-950, 108, 12, 13, 13), (-1100, 96, 8, 12, 12))
ARM: dict[Arms, tuple[Node, ...]] = {
    "down": (
        (-318, 166, 14, 26, 30), (-345, 178, 14, 40, 44), (-400, 196, 16, 44, 48), (-520, 208, 20, 40, 44),
        (-610, 216, 16, 35, 38), (-700, 218, -6, 33, 34), (-800, 214, -30, 24, 27), (-850, 208, -40, 30, 20),
        (-915, 198, -40, 24, 16),
    ),
    "up": (
        (-430, 176, 16, 16, 38), (-380, 178, 14, 38, 48), (-320, 170, 12, 44, 46), (-200, 150, 4, 42, 42),
        (-90, 128, -8, 38, 40), (20, 104, -16, 35, 36), (160, 60, -22, 30, 30),
    ),
}  # fmt: skip
SITES = (  # where lesions grow, besides the organs of the same names
    Row("neck node", "", (38, 4, -236), (10, 16, 34), 0, True),
    Row("supraclavicular node", "", (38, 0, -310), (13, 9, 9), 0, True),
    Row("mediastinal node", "", (2, -10, -408), (26, 26, 42)),
    Row("hilar node", "", (40, 4, -430), (12, 10, 18), 0, True),
    Row("axillary node", "", (138, 4, -392), (14, 22, 26), 0, True),
    Row("lung", "", (-84, 6, -440), (34, 52, 70)),
    Row("lung", "", (90, 12, -430), (28, 48, 66)),
    Row("liver", "", (-72, -2, -585), (48, 48, 56), 12),
    Row("vertebra", "", (0, 58, -520), (12, 8, 110)),
    Row("vertebra", "", (0, 46, -700), (14, 10, 60)),
    Row("iliac bone", "", (82, 44, -785), (8, 26, 40), 28, True),
    Row("sacrum", "", (0, 72, -800), (34, 10, 34)),
)
