"""`vendor/fetch_libuv.py`: complete or absent, never half, never somebody's own. Downloads nothing."""

from __future__ import annotations

import importlib.util
import io
import tarfile
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "vendor" / "fetch_libuv.py"
PIN = "uvloop==1.2 --hash=sha256:00\n"


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, its folder moved to an empty one."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    spec = importlib.util.spec_from_file_location("fetch_libuv", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "PIN", tmp_path / "libuv.txt")
    monkeypatch.setattr(module, "TARGET", tmp_path / "libuv")
    (tmp_path / "libuv.txt").write_text(PIN)
    return module


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A source distribution like the pinned one, with things in it that have no business here."""
    path = tmp_path / "a.tar.gz"
    inside = "uvloop-1.2/vendor/libuv"
    names = ["include/uv.h", "src/a.c", "src/win/b.c", "CMakeLists.txt", "LICENSE", ".git", "test/t.c", "src/../../x"]
    with tarfile.open(path, "w:gz") as tar:
        for name in [*(f"{inside}/{name}" for name in names), "uvloop-1.2/setup.py"]:
            info = tarfile.TarInfo(name)
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
        link = tarfile.TarInfo(f"{inside}/src/link.c")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_only_what_a_build_needs_is_unpacked(
    fetch: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: archive)
    assert fetch.main() == 0
    assert listing(tmp_path / "libuv") == {
        ".pin", "CMakeLists.txt", "LICENSE", "include/uv.h", "src/a.c", "src/win/b.c",
    }  # fmt: skip
    assert not list(tmp_path.glob(".libuv-*"))


def test_a_copy_of_the_pin_is_kept(fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: pytest.fail("downloaded"))
    (tmp_path / "libuv").mkdir()
    (tmp_path / "libuv" / ".pin").write_text(PIN)
    assert fetch.main() == 0


def test_a_copy_of_another_pin_is_replaced(
    fetch: ModuleType, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: archive)
    (tmp_path / "libuv").mkdir()
    (tmp_path / "libuv" / ".pin").write_text("older")
    (tmp_path / "libuv" / "old.c").touch()
    assert fetch.main() == 0
    assert "old.c" not in listing(tmp_path / "libuv")
    assert (tmp_path / "libuv" / ".pin").read_text() == PIN


def test_a_folder_without_a_stamp_is_left_alone(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: pytest.fail("downloaded"))
    (tmp_path / "libuv").mkdir()
    (tmp_path / "libuv" / "mine.c").touch()
    assert fetch.main() == 0
    assert listing(tmp_path / "libuv") == {"mine.c"}


def test_a_failed_download_leaves_nothing(fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: None)
    assert fetch.main() == 1
    assert listing(tmp_path) == {"libuv.txt"}


def test_an_archive_without_libuv_is_refused(
    fetch: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.tar.gz"
    tarfile.open(empty, "w:gz").close()
    monkeypatch.setattr(fetch.source_archive, "download", lambda pin, scratch: empty)
    with pytest.raises(SystemExit, match="no vendor/libuv"):
        fetch.main()
    assert not (tmp_path / "libuv").exists()
