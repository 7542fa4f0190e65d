import a_dependency_that_is_not_there


class Broken:
    """Cannot be imported."""

    parts = a_dependency_that_is_not_there.parts
