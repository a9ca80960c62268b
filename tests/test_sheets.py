"""One style sheet of many, with no rule that no page can use (book/sheets.py)."""

import re

import pytest

PAGE = (
    '<html data-theme="dark"><i class="a b" id="top" style="color: var(--tone)"></i></html>'
)
SCRIPT = "node.classList.add('late'); node.className = `tip-${side}`;"


@pytest.fixture
def join(tmp_path, monkeypatch, request):
    """What becomes of the text of a sheet, without white space."""
    monkeypatch.syspath_prepend(str(request.config.rootpath / "book"))
    from sheets import Names, joined

    def join(text, **others):
        for name, other in {"one.css": text, **others}.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(other, encoding="utf-8")
        names = Names.of([PAGE], [SCRIPT])
        return re.sub(r"\s+", "", joined([tmp_path / "one.css"], tmp_path, names))

    return join


@pytest.mark.parametrize(
    "rule",
    [
        ".a{color:red}",
        "#top.b>p::before{color:red}",
        "p:not(.never){color:red}",
        ".a:is(.never,.b){color:red}",
        "html[data-theme=dark].late{color:red}",
        ".tip-left{color:red}",
        "@media print{.a{color:red}}",
        "@supports (color:red){@media print{p{color:red}}}",
        "@keyframes k{from{color:red}}",
        "@font-face{font-family:never}",
        ".a{color:red!important;--tone:1px}",
        ".a{--mine:1px;width:var(--mine)}",
        '.a{content:"};"}',
    ],
)
def test_a_rule_that_a_page_can_use_stays(join, rule):
    assert join(rule) == re.sub(r"\s", "", rule)


@pytest.mark.parametrize(
    "rule",
    [
        ".never{color:red}",
        "#never p{color:red}",
        ".a .never:hover{color:red}",
        ".tip{color:red}",
        "@media print{.never{color:red}}",
        ".a{--unread:1px}",
        ".a{--first:1px;--second:var(--first)}",
        '@charset "utf-8";',
        "/* words */",
    ],
)
def test_a_rule_that_none_can_use_goes(join, rule):
    assert join(rule) == ""


def test_of_several_selectors_those_stay_that_can_be_used(join):
    assert join(".never, .a, p.never , .b p {color: red}") == ".a,.bp{color:red}"


def test_a_class_with_a_slash_is_a_class(join):
    assert join(r".a\/2 {color: red}") == ""


def test_what_is_imported_stands_where_it_was_and_addresses_hold(join):
    found = join(
        '@import "styles/two.css"; .a {color: red}',
        **{"styles/two.css": '.b {background: url(../x.png), url("data:,y"), url(#z)}'},
    )
    assert found == '.b{background:url("x.png"),url("data:,y"),url(#z)}.a{color:red}'
