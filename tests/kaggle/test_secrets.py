"""Keys and tokens never enter; the message names file and kind, never the value."""

import zipfile

import pytest

from oofline.errors import DataError
from oofline.kaggle.secrets import check_secrets, own_secrets

HEX32, HEX40 = "0123456789abcdef" * 2, "0123456789" * 4
SAMPLES = {
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----\nabc",
    "Hugging Face token": "token = 'hf_" + "a1B2" * 9 + "'",
    "Kaggle token": "KGAT_" + "a1b2" * 8,
    "kaggle.json": f'{{"username": "me", "key": "{HEX32}"}}',
    "netrc entry": "machine api.wandb.ai\n  login user\n  password xyz",
    "wandb key": f"WANDB_API_KEY={HEX40}",
    "wandb key of the new form": "wandb_v1_" + "a1B2" * 8,
    "AWS access key": "AKIA" + "ABCD1234EFGH5678",
    "GitHub token": "ghp_" + "a1B2" * 9,
    "API key": "sk-proj-" + "a1B2" * 12,
}


@pytest.fixture(autouse=True)
def bare_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for name in ("WANDB_API_KEY", "HF_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", SAMPLES)
def test_each_kind_is_found_in_any_file(kind, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(f"harmless\n{SAMPLES[kind]}\n")
    with pytest.raises(DataError) as caught:
        check_secrets([("output/demo/base/notes.txt", path)])
    assert f"output/demo/base/notes.txt ({kind})" in str(caught.value)
    assert SAMPLES[kind].split()[-1][-12:] not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    ["output/demo/wandb/run.wandb", ".netrc", "x/kaggle.json", ".env", "a/.env.local", "k/id.pem"],
)
def test_forbidden_names(target, tmp_path):
    path = tmp_path / "file"
    path.write_text("nothing")
    with pytest.raises(DataError, match="never enters"):
        check_secrets([(target, path)])


def test_hashes_vocabularies_and_weights_pass(tmp_path):
    text = tmp_path / "tokenizer.json"
    text.write_text(f'{{"sha256": "{HEX32 * 2}", "hf_a": 1, "key": "word", "##wandb_key": 7}}')
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\0" * (1 << 24) + b"AKIAABCD1234EFGH5678 " + b"\0" * 100)
    assert check_secrets([("a/tokenizer.json", text), ("a/model.safetensors", weights)]) == 2


def test_a_value_across_two_blocks_is_found(tmp_path, monkeypatch):
    secret = "correct-horse-battery-staple"
    monkeypatch.setenv("HF_TOKEN", secret)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\0" * ((1 << 24) - 9) + secret.encode() + b"\0" * 50)
    with pytest.raises(DataError, match="HF_TOKEN") as caught:
        check_secrets([("model.safetensors", path)])
    assert secret not in str(caught.value)


def test_the_users_own_keys_are_known(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / ".netrc").write_text(f"machine api.wandb.ai login user password {HEX40}\n")
    (home / ".kaggle").mkdir()
    (home / ".kaggle" / "kaggle.json").write_text(f'{{"username": "me", "key": "{HEX32}"}}')
    monkeypatch.setenv("WANDB_API_KEY", "short")
    kinds = own_secrets()
    assert "password of api.wandb.ai in .netrc" in kinds
    assert any(kind.startswith("key of ") and "kaggle.json" in kind for kind in kinds)
    assert "WANDB_API_KEY" not in kinds  # too short to be a secret, and to be looked for
    path = tmp_path / "cfg.json"
    path.write_text(f'{{"note": "{HEX40}"}}')
    with pytest.raises(DataError, match=r"cfg.json \(password of api.wandb.ai in .netrc\)"):
        check_secrets([("cfg.json", path)])


@pytest.mark.parametrize(("name", "found"), [("oofline-0.1.0", True), ("other-1.0", False)])
def test_inside_wheels(name, found, tmp_path):
    """Our own wheel is held to names and contents; published ones hold keys of their tests."""
    path = tmp_path / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/tests/key.txt", SAMPLES["private key"])
    if found:
        with pytest.raises(DataError, match=r"private key, in its pkg/tests/key\.txt"):
            check_secrets([(f"wheels/{path.name}", path)])
    else:
        assert check_secrets([(f"wheels/{path.name}", path)]) == 1
