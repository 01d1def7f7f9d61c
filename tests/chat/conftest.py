from built_family import built  # noqa: F401
