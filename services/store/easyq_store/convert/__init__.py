"""Between protos and the domain: the only conversion here. Enumerations have the same numbers on both sides."""
