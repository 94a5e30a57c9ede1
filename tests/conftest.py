from hypothesis import settings

settings.register_profile("onhand", deadline=None)  # the first call of a kernel loads or compiles
settings.load_profile("onhand")
