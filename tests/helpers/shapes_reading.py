"""A second reading of the shapes data set's words, written apart from the one that makes them."""


def fits(shape, words):
    """Whether a shape has every look that the words name."""
    kinds = {"circle", "square", "triangle", "star", "cross"}
    looks = {"red", "orange", "yellow", "green", "blue", "purple", "black", "large", "small"}
    return all(w in shape.looks for w in words if w in kinds | looks)


def found_by(scene, words):
    """Positions of the shapes that an expression means, by a second reading of its words."""
    shapes = scene.shapes
    for side in ("left", "right"):
        if [side, "of"] == words[2:4]:
            neighbor = next(i for i, s in enumerate(shapes) if fits(s, words[4:]))
            band = [i for i in scene.members(shapes[neighbor].band) if (i < neighbor) == (side == "left")]
            return [i for i in band if i != neighbor and fits(shapes[i], words[:2])]
    found = [i for i, s in enumerate(shapes) if fits(s, words)]
    if {"in", "on"} & set(words):
        found = [i for i in found if scene.stuff[shapes[i].band] == words[-1]]
    by_x = sorted(found, key=lambda i: shapes[i].x)
    return {"left": by_x[:1], "right": by_x[-1:], "middle": by_x[1:2]}.get(words[1], found)
