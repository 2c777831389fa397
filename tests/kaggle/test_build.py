"""The built folder: manifests, notebook, metadata; settings for training; fp16 weights."""

import shutil
import tomllib
import zipfile
from dataclasses import asdict
from importlib import metadata

import pytest
from safetensors import safe_open
from transformers import AutoTokenizer

from oofline.config import CFG
from oofline.errors import ConfigError, DataError
from oofline.kaggle import build, bundle, half
from oofline.kaggle.manifest import check_tree
from oofline.storage import read_json, sha256_of, write_json


def test_infer_with_half_weights(trained, kernel_options, capsys):
    paths, cfg = trained("binary")
    build.run_kernel(kernel_options(cfg, weights_dtype="fp16"), paths)
    folder = paths.output / "kernel"
    manifest = check_tree(folder)
    weights = folder / "weights" / "output" / "toy" / "base" / "seed42" / "fold0"
    with safe_open(weights / "model.safetensors", framework="pt") as handle:
        kinds = {handle.get_slice(name).get_dtype() for name in handle.keys()}  # noqa: SIM118
        assert handle.metadata()[half.ORIGINAL] == sha256_of(
            paths.fold("base", 42, 0) / "model.safetensors"
        )
    assert "F16" in kinds
    rounding = manifest["rounding"]
    assert rounding["rows"] == 40
    assert 0 < rounding["max_difference"] < 1e-2
    assert "fp16 weights: OOF" in capsys.readouterr().out
    code = check_tree(folder / "code")["files"]
    assert sorted(name.split("-")[0] for name in code) == ["wheels/oofline", "wheels/tyro"]
    names = set(check_tree(folder / "weights")["files"])
    assert "output/toy/folds.csv" in names
    assert not any(name.endswith("test.parquet") for name in names)
    assert manifest["slug"] == "oofline-toy-base"
    kernel = read_json(folder / "notebook" / "kernel-metadata.json")
    assert kernel["code_file"] == "oofline-toy-base.ipynb"


def test_a_baseline_has_no_encoder_and_no_weights_to_round(trained, kernel_options):
    paths, cfg = trained("binary", kind="ridge")
    build.run_kernel(kernel_options(cfg), paths)
    names = set(check_tree(paths.output / "kernel" / "weights")["files"])
    folder = "output/toy/base/seed42/fold0/"
    assert {n.removeprefix(folder) for n in names if n.startswith(folder)} == {
        "features.json", "features.safetensors", "model0.safetensors", "oof.parquet", "scores.json",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="a baseline's files are small"):
        build.run_kernel(kernel_options(cfg, weights_dtype="fp16"), paths)
    files = {name for name, _ in bundle.training_files(cfg, paths)}
    assert files
    assert not any(name.startswith("models/") for name in files)
    assert tomllib.loads(bundle.settings_toml(cfg))["kind"] == "ridge"


def test_japanese_words_need_their_dictionary(tmp_path, write_competition, load_settings):
    def entry(name, text):
        path = tmp_path / name
        path.write_text(text)
        return (f"output/toy/base/seed42/fold0/{name}", path)

    old = entry("tokenizer_config.json", '{"word_tokenizer_type": "mecab"}')
    assert bundle.mecab_dictionaries([old]) == {"ipadic"}
    named = '{"word_tokenizer_type": "mecab", "mecab_kwargs": {"mecab_dic": "unidic_lite"}}'
    assert bundle.mecab_dictionaries([entry("tokenizer_config.json", named)]) == {"unidic-lite"}
    assert bundle.mecab_dictionaries([entry("tokenizer_config.json", "{}")]) == set()
    for dictionary, wanted in (("ipadic", {"ipadic"}), ("", set())):
        recipe = f'{{"recipe": {{"dictionary": "{dictionary}"}}}}'
        assert bundle.mecab_dictionaries([entry("features.json", recipe)]) == wanted
    paths = write_competition("binary", 30, 7)
    japanese = load_settings(paths, kind="ridge", word_splitter="mecab")
    assert bundle.dictionary_to_train_with(japanese, paths) == {"ipadic"}
    assert bundle.dictionary_to_train_with(load_settings(paths, kind="ridge"), paths) == set()
    assert bundle.dictionary_to_train_with(load_settings(paths), paths) == set()


def japanese_bert(source, folder, dictionary):
    """A copy of a tiny BERT that finds words by MeCab, as Japanese ones on the hub do."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(source / name, folder)
    vocabulary = AutoTokenizer.from_pretrained(source).get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)) + "\n")
    named = {"mecab_kwargs": {"mecab_dic": dictionary}} if dictionary else {}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab",
        "subword_tokenizer_type": "wordpiece", **named,
    })  # fmt: skip


@pytest.mark.parametrize(("dictionary", "package"), [
    ("unidic_lite", "unidic-lite"), ("", "ipadic"),
])  # fmt: skip
def test_mecab_and_its_dictionary_travel_with_a_japanese_bert(
    trained, kernel_options, tiny_model, tmp_path, dictionary, package
):
    for name in ("fugashi", "ipadic", "unidic_lite"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    model = tmp_path / "input" / "models" / "bert-ja"
    japanese_bert(tiny_model("bert"), model, dictionary)
    paths, cfg = trained("binary", model=str(model))
    for name in ("fugashi", package):
        version, plain = metadata.version(name), name.replace("-", "_")
        wheel = paths.cache / "wheels" / f"{plain}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            archive.writestr(f"{plain}-{version}.dist-info/METADATA", about)
    for mode in ("infer", "train"):
        build.run_kernel(kernel_options(cfg, mode=mode), paths)
        folder = paths.output / "kernel"
        assert read_json(folder / "manifest.json")["extra_requirements"] == ["fugashi", package]
        wheels = {path.name.split("-")[0] for path in (folder / "code" / "wheels").iterdir()}
        assert wheels == {"oofline", "tyro", "fugashi", package.replace("-", "_")}
        (notebook,) = (folder / "notebook").glob("*.ipynb")
        assert package in notebook.read_text()


def test_the_backbone_below_adapters_goes_along_as_it_is(
    trained, kernel_options, tiny_model, capsys
):
    paths, cfg = trained("binary", model=str(tiny_model("llama")), pooling="last", lora_r=4)
    build.run_kernel(kernel_options(cfg, weights_dtype="fp16"), paths)
    kernel = paths.output / "kernel" / "weights"
    (kept,) = (kernel / "output" / "toy" / "backbones").iterdir()
    for name in ("model.safetensors", "config.json"):
        assert sha256_of(kept / name) == sha256_of(tiny_model("llama") / name)
    folds = sorted((kernel / "output" / "toy" / "base" / "seed42").iterdir())
    assert len(folds) == 2
    for fold in folds:
        assert (fold / "adapter.json").is_file()
        assert (fold / "model.safetensors").stat().st_size < 0.5 * (
            kept / "model.safetensors"
        ).stat().st_size
    assert check_tree(paths.output / "kernel")["rounding"]["rows"] == 40
    assert "fp16 weights: OOF" in capsys.readouterr().out


def test_a_secret_stops_it_before_anything_is_written(trained, kernel_options, monkeypatch):
    paths, cfg = trained("binary")
    monkeypatch.setenv("HF_TOKEN", "a-token-that-is-long-enough")
    path = paths.fold("base", 42, 1) / "extra.json"
    path.write_text('{"token": "a-token-that-is-long-enough"}')
    with pytest.raises(DataError, match=r"fold1/extra\.json \(HF_TOKEN\)"):
        build.run_kernel(kernel_options(cfg), paths)
    assert not (paths.output / "kernel").exists()
    assert not list(paths.output.glob(".kernel*"))


def test_settings_of_a_training_survive_as_toml():
    cfg = CFG(model="a/b", lr=3e-5, text_template='{a} "x"\n', dropout=0.1, wandb="disabled")
    found = tomllib.loads(bundle.settings_toml(cfg))
    assert found.pop("model") == "input/models/b"
    assert found == {k: asdict(cfg)[k] for k in ("lr", "text_template", "dropout", "wandb")}


def test_train_needs_folds_and_whole_weights(write_competition, load_settings, kernel_options):
    paths = write_competition("binary", 30, 7)
    cfg = load_settings(paths)
    with pytest.raises(DataError, match="make folds COMP=toy first"):
        build.run_kernel(kernel_options(cfg, mode="train"), paths)
    paths.folds.parent.mkdir(parents=True)
    paths.folds.write_text("id,fold\n")
    with pytest.raises(ConfigError, match="weights_dtype is for MODE=infer"):
        build.run_kernel(kernel_options(cfg, mode="train", weights_dtype="fp16"), paths)


def test_a_students_labels_go_along(write_competition, load_settings):
    paths = write_competition("binary", 30, 7)
    write_json(paths.pseudo("soft") / "pseudo.json", {})
    cfg = load_settings(paths, pseudo="soft")
    names = [name for name, _ in bundle.training_files(cfg, paths)]
    assert "output/toy/pseudo/soft/pseudo.json" in names
    assert tomllib.loads(bundle.settings_toml(cfg))["pseudo"] == "soft"
