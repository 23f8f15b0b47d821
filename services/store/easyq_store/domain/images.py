"""Image references as people look for them."""


def short_name(image: str) -> str:
    """Last path segment with its tag: `echo:1` of `registry.example:5000/team/echo:1`."""
    return image.rpartition("/")[2]


def matches(image: str, query: str) -> bool:
    """Whether the reference, or its short name, begins with the query."""
    return image.startswith(query) or short_name(image).startswith(query)


def is_named(image: str, name: str) -> bool:
    """Whether the reference is this one, or this one with a tag, a digest, or both. An empty name is any."""
    if not name:
        return True
    rest = image.removeprefix(name)
    return image.startswith(name) and (not rest or (rest[0] in ":@" and "/" not in rest))
