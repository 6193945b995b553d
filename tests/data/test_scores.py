import io
import zipfile

import pytest

from jaxkd.data.scores import Note, load_scores, read_licence
from jaxkd.errors import DataError

CONTAINER = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'
MEASURES = """
<measure>
  <attributes><divisions>2</divisions></attributes><sound tempo="76"/>
  <note><grace/><pitch><step>D</step><octave>4</octave></pitch></note>
  <note><pitch><step>C</step><octave>4</octave></pitch><duration>2</duration></note>
  <note><chord/><pitch><step>E</step><alter>-1</alter><octave>4</octave></pitch><duration>2</duration></note>
  <note><pitch><step>G</step><octave>4</octave></pitch><duration>6</duration><tie type="start"/></note>
  <backup><duration>8</duration></backup>
  <note><rest/><duration>4</duration></note>
  <note><pitch><step>B</step><octave>2</octave></pitch><duration>4</duration></note>
</measure>
<measure>
  <attributes><divisions>4</divisions><transpose><chromatic>-2</chromatic><octave-change>1</octave-change></transpose></attributes>
  <note><pitch><step>A</step><octave>3</octave></pitch><duration>4</duration><tie type="stop"/></note>
  <forward><duration>4</duration></forward>
  <note><pitch><step>F</step><alter>1</alter><octave>3</octave></pitch><duration>1</duration></note>
</measure>
"""


def archive(path, members):
    with zipfile.ZipFile(path, "w") as outer:
        for name, content in members.items():
            outer.writestr(name, content)
    return path


def mxl(parts: int, measures: str = MEASURES) -> bytes:
    buffer = io.BytesIO()
    body = "".join(f'<part id="P{i}">{measures}</part>' for i in range(parts))
    rights = "<identification><rights>Public domain</rights></identification>"
    with zipfile.ZipFile(buffer, "w") as inner:
        inner.writestr("META-INF/container.xml", CONTAINER)
        inner.writestr("score.xml", f"<score-partwise>{rights}{body}</score-partwise>")
    return buffer.getvalue()


def test_notation(tmp_path):
    (score,) = load_scores(archive(tmp_path / "a.zip", {"s/a.mxl": mxl(3), "s/duo.mxl": mxl(2), "other/b.mxl": mxl(3)}), folder="s/")
    assert (score.name, score.tempo, score.rights, len(score.parts)) == ("a", 76.0, "Public domain", 3)
    assert score.parts[0] == (
        Note(0.0, 1.0, 60),
        Note(0.0, 1.0, 63),
        Note(1.0, 4.0, 67),  # tied to the sounding G of the second measure, which is written A
        Note(2.0, 2.0, 47),
        Note(6.0, 0.25, 64),
    )
    assert score.length == 6.25


def test_ties_join(tmp_path):
    tied = "<measure><note><pitch><step>A</step><octave>4</octave></pitch><duration>4</duration>{}</note></measure>"
    ends = ('<tie type="start"/>', '<tie type="stop"/><tie type="start"/>', '<tie type="stop"/>')
    (score,) = load_scores(archive(tmp_path / "a.zip", {"s/a.mxl": mxl(3, "".join(tied.format(end) for end in ends))}), folder="s/")
    assert score.parts[0] == (Note(0.0, 12.0, 69),)


def test_equal_music_has_an_equal_hash_in_any_key(tmp_path):
    higher = MEASURES.replace("<octave>4<", "<octave>5<").replace("<octave>3<", "<octave>4<").replace("<octave>2<", "<octave>3<")
    other = MEASURES.replace("<duration>6<", "<duration>5<")
    members = {"s/a.mxl": mxl(3), "s/b.mxl": mxl(3, higher), "s/c.mxl": mxl(3, other)}
    a, b, c = load_scores(archive(tmp_path / "a.zip", members), folder="s/")
    assert a.content_hash == b.content_hash != c.content_hash


def test_licence_is_looked_for_upwards(tmp_path):
    path = archive(tmp_path / "a.zip", {"corpus/license.txt": "all", "corpus/one/license.txt": "one"})
    assert (read_licence(path, folder="corpus/one/"), read_licence(path, folder="corpus/two/"), read_licence(path, folder="x/")) == ("one", "all", "")


def test_real_scores(scores):
    assert len(scores) == 407
    assert all(len(score.parts) >= 3 for score in scores)
    assert all(24 <= note.pitch <= 96 and note.duration > 0 for score in scores for part in score.parts for note in part)
    chorale = next(score for score in scores if score.name == "bwv66.6")  # F sharp minor, anacrusis; four voices that end together on F sharp major
    assert len(chorale.parts) == 4 and {part[-1].onset + part[-1].duration for part in chorale.parts} == {36.0}
    assert [part[-1].pitch for part in chorale.parts] == [66, 61, 58, 54]
    assert [note.pitch for note in chorale.parts[0][:5]] == [73, 71, 69, 71, 73]


@pytest.mark.parametrize("content, message", [(b"not a zip", "a.mxl is not compressed MusicXML"), (b"", "a.mxl is not compressed MusicXML")])
def test_damaged_score(content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_scores(archive(tmp_path / "a.zip", {"s/a.mxl": content}), folder="s/")


def test_damaged_archive(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="cannot be read as a zip archive"):
        load_scores(tmp_path / "a.zip")
    with pytest.raises(DataError, match="holds no score"):
        load_scores(archive(tmp_path / "b.zip", {"x": "y"}))
