"""The tokenizer returns the ids of transformers' CLIPTokenizer, from the standard vocabulary and from a folder."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from functools import cache
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer, CLIPTokenizer

from nodegraph_diffusion.text.tokenizer import END, START, WORD_END, byte_alphabet, load_tokenizer

TEXTS = [
    "",
    " ",
    "a photo of an astronaut riding a horse on mars",
    'A Photo, of: AN astronaut!!! (riding) [a] horse... on "mars"; 8k & hdr + f/1.4',
    "it's they'll I'm we've you'd don't she're 'tis rock'n'roll IT'S IT’S",
    "  leading,\ttabs\nnew lines\r\n and   runs\u00a0of\u2003space \u200b\ufeff ",
    "1234567890 3.14159 ½ ² Ⅷ ٣ ๓ 一二三",
    "Été déjà vu, naïve façade; e\u0301te\u0301 A\u030angstro\u0308m Ǆ ǅ ß ẞ ﬁ İstanbul ıI",
    "Привет мир, Ελληνικά ΟΔΟΣ σς, עברית שלום, العربية مرحبا",
    "日本語のテキスト 漢字 カタカナ, 한국어 안녕하세요, 中文 紅色的房子",
    "हिन्दी नमस्ते ไทย สวัสดี தமிழ் አማርኛ",
    "🦊 👩🏽‍🚀 🏳️‍🌈 🇩🇪 ☕️ ♥ → ∑ 𝓈𝒸𝓇𝒾𝓅𝓉 𐍈",
    "<|startoftext|> and <|endoftext|> in <|endoftext|><|endoftext|>text, <|ENDOFTEXT|> <|other|> </w>",
    "zero\0byte \x07bell \u202eright to left\ufffd",
    "supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "snake_case CamelCase kebab-case http://example.com/?a=b&c=d%20e user@host #tag",
]


@cache
def merges():
    packed = (resources.files("nodegraph_diffusion") / "text" / "clip_vocabulary" / "merges.txt.gz").read_bytes()
    return [tuple(line.split(" ")) for line in gzip.decompress(packed).decode().splitlines()]


@cache
def vocabulary():
    tokens = [*byte_alphabet(), *(byte + WORD_END for byte in byte_alphabet()), *map("".join, merges()), START, END]
    return {token: i for i, token in enumerate(tokens)}


@pytest.fixture(scope="module")
def reference():
    return CLIPTokenizer(vocab=vocabulary(), merges=merges())


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def write_folder(folder, config=None, specials=None):
    """A published checkpoint's tokenizer folder."""
    folder.mkdir(exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary(), ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges())]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if specials is not None:
        (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Laid out like Stable Diffusion 1.5's."""
    special = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    return write_folder(
        tmp_path_factory.mktemp("tokenizer"),
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace"},
        {"bos_token": {"content": START, **special}, "eos_token": {"content": END, **special}, "pad_token": END},
    )


def test_vocabulary_equals_clip(tokenizer):
    assert len(merges()) == 48_894
    assert len(vocabulary()) == tokenizer.vocab_size == 49_408
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.max_length) == (49406, 49407, 49407, 77)
    assert tokenizer.encode("a photo of an astronaut riding a horse on mars") == [
        *(320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496)
    ]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_equal_transformers(tokenizer, reference, text):
    assert tokenizer.encode(text) == reference(text)["input_ids"][1:-1]


@settings(deadline=None)
@given(st.text(max_size=60))
def test_ids_of_any_text_equal_transformers(tokenizer, reference, text):
    assert tokenizer.encode(text) == reference(text)["input_ids"][1:-1]


@settings(deadline=None)
@given(st.lists(st.sampled_from([*"aeiz'(,.: 019\t\n", "é", "'s", "LL", "水", "🦊", START, END]), max_size=30).map("".join))
def test_ids_of_combined_pieces_equal_transformers(tokenizer, reference, text):
    assert tokenizer.encode(text) == reference(text)["input_ids"][1:-1]


@pytest.mark.parametrize("text", TEXTS)
def test_folder_gives_the_same_ids(tokenizer, folder, text):
    assert load_tokenizer(folder).encode(text) == tokenizer.encode(text)


def test_folder_sets_special_tokens_and_length(tmp_path):
    folder = write_folder(
        tmp_path / "sd2",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 60, "pad_token": END, "bos_token": None},
        {"bos_token": START, "eos_token": END, "pad_token": "!"},
    )
    loaded = load_tokenizer(folder)
    assert (loaded.bos, loaded.eos, loaded.pad, loaded.max_length) == (49406, 49407, 0, 60)


def test_folder_without_a_config_is_clip(tmp_path, tokenizer):
    loaded = load_tokenizer(write_folder(tmp_path / "bare"))
    assert (loaded.bos, loaded.eos, loaded.pad, loaded.max_length) == (49406, 49407, 49407, 77)
    unset = load_tokenizer(write_folder(tmp_path / "bare", {"model_max_length": 1e30}))
    assert unset.max_length == 77


def test_folder_written_by_transformers_is_read(tmp_path, reference, tokenizer):
    reference.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.bos, loaded.eos, loaded.pad, loaded.max_length) == (49406, 49407, 49407, 77)
    assert all(loaded.encode(text) == tokenizer.encode(text) for text in TEXTS)


def test_other_tokenizers_use_transformers(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "house", "##s"]
    other = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, bos_token="[CLS]", eos_token="[SEP]")
    other.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode("Red houses") == [5, 6, 7]
    assert (loaded.bos, loaded.eos, loaded.pad) == (2, 3, 0)


def test_missing_special_tokens_are_refused(tmp_path):
    folder = write_folder(tmp_path / "odd", {"tokenizer_class": "CLIPTokenizer"}, {"pad_token": "<pad>"})
    with pytest.raises(ValueError, match=r"odd: expected its pad_token '<pad>' in the vocabulary"):
        load_tokenizer(folder)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected a tokenizer, that is vocab.json and merges.txt, or tokenizer.json; found neither"),
        ({"vocab.json": "{", "merges.txt": ""}, "vocab.json and merges.txt do not hold a byte-pair vocabulary"),
        ({"tokenizer.json": "{}"}, "tokenizer.json: not a tokenizer"),
        ({"tokenizer_config.json": "no"}, "tokenizer_config.json: not JSON"),
        ({"tokenizer_config.json": "[]"}, "tokenizer_config.json: expected a JSON object, found list"),
    ],
)
def test_folder_without_a_tokenizer_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_tokenizer(tmp_path)


def test_unknown_words_of_a_small_vocabulary_are_found(tmp_path):
    tokens = [*byte_alphabet(), *(byte + WORD_END for byte in byte_alphabet())]
    small = [("r", "e"), ("re", "d" + WORD_END), ("c", "a"), ("ca", "t" + WORD_END)]
    tokens += [*map("".join, small), START, END]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, small)) + "\n")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.encode("red cat") == [tokens.index("red</w>"), tokens.index("cat</w>")]
    assert tokenizer.unknown_words("A red Cat, a Giraffe & 2 cats: GIRAFFE, Giraffe 水 ...") == [
        *("Giraffe", "cats", "GIRAFFE", "水")
    ]
    assert tokenizer.unknown_words("") == []


def test_unknown_words_of_the_standard_vocabulary_are_found(tokenizer):
    assert tokenizer.unknown_words("a photo of an astronaut riding a skyscraper, 8k, it's -- !?") == []
    assert tokenizer.unknown_words("a 火星 xqzvk house") == ["火星", "xqzvk"]


def test_loading_imports_no_transformers_and_no_torch(folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from nodegraph_diffusion.text.tokenizer import load_tokenizer\n"
        "load_tokenizer(Path(sys.argv[1]) if sys.argv[1:] else None)\n"
        "sys.exit('transformers' in sys.modules or 'torch' in sys.modules)"
    )
    for arguments in ([], [str(folder)]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_standard_vocabulary_is_read_once():
    assert load_tokenizer() is load_tokenizer()
