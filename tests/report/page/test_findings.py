"""Names and texts of data on the pages of findings, and the files that a page shows."""

import json
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from support.html_page import HTMLPage

from seqjax import Error, Report
from seqjax.report import exactly
from seqjax.report.finding import Finding, found, sha256
from seqjax.report.page.findings import summary, write_html, write_markdown
from seqjax.report.table import markdown

PNG = b"\x89PNG of this report"
NAMES = [
    '"><script>alert(1)<script>',
    "`a` | b *c* _d_ [e](javascript:alert(1)) &lt; ~~f~~",
    "![x](y.png)",
    "a)b\\(\x1b\u202e",
]


def kept(script: Path, title: str = "", report: Report | None = None, made_with: str = "1 core") -> Finding:
    """The finding of a script whose report was written by hand."""
    script.write_text(f'"""{title}"""')
    folder = script.with_suffix("")
    report = report or Report(script)
    head = Report(script).to_markdown()
    report.save(folder)
    text = (folder / "report.md").read_text().removeprefix(head)
    (folder / "report.md").write_text(f"{head}{text}\n![line](line.png)\n")
    (folder / "line.png").write_bytes(PNG)
    done = {"sha256": sha256(script), "head": head, "began": 0, "seconds": 1, "made_with": made_with}
    (folder / "done.json").write_text(json.dumps(done))
    return Finding(script, folder, head, 0.0, 1.0, made_with)


def live(html: str) -> list[str]:
    """What a browser would run or load, and elements that no page of findings makes."""
    page = HTMLPage(html)
    run = [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    loaded = [source for source in page.attributes("src") if not source.startswith("data:")]
    links = [link for link in page.attributes("href") if not link.startswith("#")]
    made = {tag for tag, _ in page.elements} & {"script", "em", "s", "del"}
    return [*run, *loaded, *links, *made]


def shown(name: str) -> str:
    return name.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_and_never_run(name, tmp_path):
    """As the name of a script, of its title, of a result, of the machine, of the page, of a script that was not run."""
    titled = Report(title=name)
    titled.row(name, name, exactly(name))
    one = kept(tmp_path / f"{name}.py")
    two = kept(tmp_path / "two.py", made_with=name)
    two.folder.joinpath("report.md").write_text(titled.to_markdown())
    two.folder.joinpath("rows.csv").write_text(titled.results.to_csv())
    findings = [one, two]
    assert two.title == shown(name)
    assert two.results[0]["what"] == two.results[0]["got"] == shown(name)

    write_html(findings, tmp_path / "page.html", name, [name])
    html = (tmp_path / "page.html").read_text()
    assert live(html) == []
    page = HTMLPage(html)
    assert page.texts["h1"] == [shown(name)]
    assert page.texts["h2"] == [shown(name)] * 2
    assert page.texts["td"][:2] == [shown(name)] * 2
    assert f"minutes on 1 core; {shown(name)}. Not run: {shown(name)}." in page.texts["p"][0]

    write_markdown(findings, tmp_path / "all.md", name, [name])
    (tmp_path / "table.md").write_text(summary(findings).to_markdown())
    figure = f"all/{name}-line.png"
    assert (tmp_path / figure).read_bytes() == PNG
    for file in ("all.md", "table.md"):
        # As a viewer that lets HTML through.
        html = (
            MarkdownIt("commonmark", {"html": True})
            .enable(["table", "strikethrough"])
            .render((tmp_path / file).read_text())
        )
        (link,) = re.findall(r'src="(.*?)"', html) or [""]
        assert live(html.replace(f'src="{link}"', "")) == []
    assert shown(name) in HTMLPage(html).texts["td"]


def test_the_link_of_a_figure_leads_to_its_file(tmp_path):
    from urllib.parse import unquote

    write_markdown([kept(tmp_path / "a b)#?%.py")], tmp_path / "all.md", "All")
    (link,) = re.findall(r"!\[line\]\((.*)\)", (tmp_path / "all.md").read_text())
    assert not set(link) & set(" )#?")
    assert (tmp_path / unquote(link)).read_bytes() == PNG


OUTSIDE = ["../secret.png", "/etc/passwd", "deep/x.png", "~/x.png", "https://x.org/y.png", ".."]


@pytest.mark.parametrize("target", OUTSIDE)
def test_an_image_outside_of_the_folder_of_its_report_is_not_copied(target, tmp_path):
    (tmp_path / "secret.png").write_bytes(b"secret")
    finding = kept(tmp_path / "one.py")
    with (finding.folder / "report.md").open("a") as file:
        file.write(f"\n![secret]({target})\n")
    assert finding.figures == [finding.folder / "line.png"]
    (tmp_path / "out").mkdir()
    write_markdown([finding], tmp_path / "out" / "all.md", "All")
    write_html([finding], tmp_path / "out" / "all.html", "All")
    assert [file.name for file in (tmp_path / "out" / "all").iterdir()] == ["one-line.png"]
    text = (tmp_path / "out" / "all.md").read_text()
    html = (tmp_path / "out" / "all.html").read_text()
    assert f"Left out: the image {markdown(target)}, which is not in the folder of the report." in text
    assert f"Left out: the image {target}, which is not in the folder of the report." in html
    assert f"]({target})" not in text
    assert live(html) == []
    assert "c2VjcmV0" not in html, "the secret in base64"


@pytest.mark.parametrize("name", ["line.png", "report.md", "rows.csv", "done.json"])
def test_a_link_is_no_part_of_a_finding_and_not_followed_if_it_comes_later(name, tmp_path):
    finding = kept(tmp_path / "one.py")
    (finding.folder / "rows.csv").write_text(Report(title="x").results.to_csv())
    assert found([finding.script], tmp_path) == [finding]
    secret = (finding.folder / name).rename(tmp_path / "secret")
    (finding.folder / name).symlink_to(secret)
    assert found([finding.script], tmp_path) == []
    for write in (write_html, write_markdown) if name != "done.json" else ():
        with pytest.raises(Error, match="not a plain file"):
            write([finding], tmp_path / "all", "All")
        assert not (tmp_path / "all").is_file()
