import flmm  # noqa: F401  applies the patches that mmdet and mmseg need before a test module imports them
