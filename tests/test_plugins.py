"""Names to objects: the nearest name, the plug-in door, what cannot be imported."""

import collections
import hashlib

import pytest

from jaxkd import students
from jaxkd.errors import ConfigError
from jaxkd.plugins import resolve, sources

TABLE = {"ordered": "collections:OrderedDict", "broken": "collections:NoSuchThing"}


def test_a_name_of_the_table_and_one_of_the_users_own():
    assert resolve("container", "ordered", TABLE) is collections.OrderedDict
    assert resolve("container", "collections:Counter", TABLE) is collections.Counter


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("orderd", "unknown container 'orderd'. Did you mean 'ordered'"),
        ("broken", "could not be imported: module 'collections' has no attribute 'NoSuchThing'"),
        ("no_such_module_at_all:build", "could not be imported: No module named 'no_such_module_at_all'"),
        (":build", "unknown container"),
        ("module:", "unknown container"),
    ],
)
def test_bad_names(name, message):
    with pytest.raises(ConfigError) as caught:
        resolve("container", name, TABLE)
    assert message in str(caught.value)


def test_the_sources_of_modules_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "students.py").write_bytes(b"x = 1\n")
    (tmp_path / "own" / "methods.py").write_bytes(b"x = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    none = ("jaxkd.students.cp_resnet:cp_resnet_tiny", "own.other:build", "nowhere.students:build", "C:\\x", "a: b", 0.1, None)
    digests = {f"source of own.{name}": hashlib.sha256((tmp_path / "own" / f"{name}.py").read_bytes()).hexdigest()[:12] for name in ("students", "methods")}
    assert sources(["own.students:build", ["kd", "own.methods:build"], *none]) == digests


def test_a_student_of_ones_own():
    student = students.build("jaxkd.students.cp_resnet:cp_resnet_tiny", num_outputs=5)
    assert student.num_outputs == 5
