from built_family import built  # noqa: F401

COLUMNS = ("family", "LMM", "pictures", "replies", "ids equal", "grounding, largest difference")


def pytest_terminal_summary(terminalreporter):
    """With -v (addopts say -q), sum up in a table what test_families.py compared for each family."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    rows = [dict(report.user_properties) for report in reports if report.when == "call"]
    rows = [[row[name] for name in COLUMNS] for row in rows if COLUMNS[0] in row]
    if rows and terminalreporter.verbosity >= 0:
        terminalreporter.section("replies of each family beside plain generate and teacher forcing")
        for row in (COLUMNS, *rows):
            terminalreporter.write_line("| " + " | ".join(row) + " |")
