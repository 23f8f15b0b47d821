"""The REST face: routes from the protos' own annotations, and by hand what those can't say (`byhand`)."""
