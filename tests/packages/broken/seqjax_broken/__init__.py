class Silent:
    """Registers nothing."""
