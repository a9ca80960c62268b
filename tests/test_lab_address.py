"""Addresses of the lab, and what shows a claim there. That the page writes the same ones and
opens them: tests/test_lab_page.py, tests/test_lab_screen.py; that their runs are recorded:
tests/test_lab_data.py."""

import re
from html import unescape

import pytest
from test_claims import WANTED

from lrdlib.evidence.claims import CLAIMS
from lrdlib.evidence.judging import Evidence
from lrdlib.figures.claims import cards
from lrdlib.lab.address import CHANGED, FIELDS, RULES, SWITCHES, of_recorded, of_training
from lrdlib.lab.presets import SETTINGS, all_presets
from lrdlib.lab.script import STATIC
from lrdlib.lab.shows import IN_LAB
from lrdlib.training.config import TrainConfig

LINK = re.compile(r'<a href="(lab\.html#[^"]+)">([^<]+)</a>')


def test_every_view_is_of_a_claim_and_on_its_card():
    assert IN_LAB.keys() <= {claim.name for claim in CLAIMS}
    assert len({view.words for view in IN_LAB.values()}) == len(IN_LAB)
    text = cards(Evidence(WANTED, {}), IN_LAB)
    for block in text.split('<div class="lrd-claim ')[1:]:
        (name,) = re.findall(r'id="claim-([^"]+)"', block)
        links = [(unescape(words), unescape(href)) for href, words in LINK.findall(block)]
        assert links == ([tuple(IN_LAB[name])] if name in IN_LAB else [])
    assert LINK.findall(cards(Evidence(WANTED, {}))) == []


def test_another_task_and_a_second_strength_are_in_the_address():
    config = TrainConfig(
        rule="lrd", l2=0.1, p=113, qk_norm="width", select="qk", scale=None, seed=2
    )
    assert of_recorded(config, beside=TrainConfig(lr=1e-4), step=0, matrix="1.key") == (
        "lab.html#lab:task=add113,qk_norm:width&rule=lrd&mode=independent,None,qk&lr=0.001"
        "&lambda=0.01,0.1&f=0.4&seed=2/50&vs.task=add97&vs.rule=lrd&vs.mode=independent"
        "&vs.lr=0.0001&vs.lambda=0.01&vs.f=0.4&vs.seed=0/50&step=0&matrix=1.key"
    )


def test_the_words_of_an_address_are_those_of_the_script():
    script = (STATIC / "live-run.js").read_text(encoding="utf-8")
    switches = script.partition("const LIVE_SWITCHES = {")[2].partition("\n};")[0]
    known = {
        name: tuple(re.findall(r'"?([\w+]+)"?: "', values))
        for name, values in re.findall(r"(\w+): \{[^{]*values: \{([^}]*)\}", switches)
    }
    assert known == {name: words for name, words in SWITCHES.items() if name != "l2_on"}
    lists = (STATIC / "address.js").read_text(encoding="utf-8")
    fields = re.findall(r'"(\w+)"', re.findall(r"TRAIN_FIELDS = (.*)", lists)[0])
    assert tuple(fields) == FIELDS
    assert set(CHANGED) == {"rule", "weight_decay", "l2", "lr", *SWITCHES}
    rules = re.findall(r"PAGE_RULES = (.*?\])", (STATIC / "page.js").read_text("utf-8"))[0]
    assert tuple(re.findall(r'"(\w+)"', rules)) == RULES


READ = """([source, hash, presets]) =>
    new Function(`${source}; return readTrain;`)()(hash, presets, ["none", "l2", "lrd"])"""


@pytest.fixture(scope="module")
def read(chromium):
    """What the page reads in an address, its presets being ours."""
    page = chromium.new_page()
    parts = [STATIC / name for name in ("live-run.js", "address.js")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in parts)
    return lambda hash: page.evaluate(READ, [source, hash, all_presets()])


@pytest.mark.parametrize(
    "field",
    [
        *("fraction=5", "fraction=0", "fraction=1", "fraction=-0.5"),
        *("seed=-1.5", "seed=1.5", "seed=-1", "seed=4294967296", "seed= "),
        *("lr=-1", "l2=-0.1", "weight_decay=-1", "weight_decay=Infinity", "lr=1e999"),
        *("rule=proximal", "l2_on=here", "select=constructor", "part=toString"),
    ],
)
def test_what_no_run_can_have_is_the_preset_s(read, field):
    found = read(f"#train:preset=small&{field}&then=3:{field}&then=7:lr=0")
    assert found["config"] == all_presets()["small"]["config"]
    assert found["plan"] == [{"step": 7, "lr": 0}]


def test_what_a_run_can_have_is_taken(read):
    fields = {"fraction": 0.25, "seed": 2**32 - 1, "lr": 0, "weight_decay": 3, "l2": 0.5}
    address = "&".join(f"{name}={value}" for name, value in fields.items())
    config = read(f"#train:preset=mul&{address}&rule=l2&l2_on=selected")["config"]
    assert fields | {"rule": "l2", "l2_on": "selected"} == {
        name: config[name] for name in (*fields, "rule", "l2_on")
    }


@pytest.mark.parametrize("preset", ["constructor", "toString", "large", ""])
def test_a_preset_that_there_is_not_is_no_address(read, preset):
    assert read(f"#train:preset={preset}&seed=1") is None
    assert read("#train:seed=1") is None


@pytest.mark.parametrize("preset", SETTINGS)
def test_a_preset_as_it_is_has_no_more_than_its_fields(preset):
    names = re.findall(r"(\w+)=", of_training(preset))
    assert names == ["preset", *FIELDS]


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: of_recorded({}, step=0), TypeError, "config must be of type TrainConfig"),
        (lambda: of_recorded(TrainConfig(), step=3001), ValueError, "step must be an int"),
        (lambda: of_recorded(TrainConfig(), step=0.5), TypeError, "step must be an int"),
        (
            lambda: of_recorded(TrainConfig(), step=0, beside=1),
            TypeError,
            "beside must be of type TrainConfig",
        ),
        (
            lambda: of_recorded(TrainConfig(), step=0, matrix="2.query"),
            ValueError,
            "matrix must be one of",
        ),
        (lambda: of_training("large"), ValueError, "preset must be one of"),
        (lambda: of_training("small", p=7), ValueError, "fields must be one of"),
        (lambda: of_training("small", rule="proximal"), ValueError, "rule must be one of"),
        (lambda: of_training("small", select="qk+vo"), ValueError, "select must be one"),
        (lambda: of_training("small", fraction=1.5), ValueError, "fraction must be"),
        (lambda: of_training("small", then=[(1,)]), ValueError, "then must hold"),
        (lambda: of_training("small", then=[(1, "seed", 2)]), ValueError, "then's field"),
        (lambda: of_training("small", then=[(9999, "lr", 1)]), ValueError, "then's step"),
        (
            lambda: of_training("small", then=[(9, "lr", 1.0), (8, "lr", 1.0)]),
            ValueError,
            "then's step must be an integer",
        ),
        (lambda: of_training("small", then=[(1, "lr", -1)]), ValueError, "lr must be"),
    ],
)
def test_bad_input_is_one_clear_error(call, error, words):
    with pytest.raises(error, match=words):
        call()
