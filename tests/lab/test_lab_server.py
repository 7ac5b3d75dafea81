"""How the lab is served, by its settings: from whichever folder it is started."""

from pathlib import Path

from lab_visitor import PageSocket, ServedLab


def test_it_is_as_protected_and_looks_the_same_from_whichever_folder_it_is_started(tmp_path: Path) -> None:
    lab = ServedLab(tmp_path / "root", tmp_path / "log", folder=tmp_path)
    try:
        lab.wait()
        with PageSocket(lab) as page:
            said = page.run()
    finally:
        lab.end()
    assert "0.0.0.0" not in lab.log.read_text() and f"URL: http://127.0.0.1:{lab.port}" in lab.log.read_text()
    assert "gather_usage_stats: true" not in said and "toolbar_mode: VIEWER" in said
    assert 'primary_color: "#14626b"' in said
