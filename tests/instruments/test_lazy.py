from __future__ import annotations

import subprocess
import sys

import pytest

import kvlab.instruments as instruments

HEAVY = "{'numpy', 'pandas', 'matplotlib', 'sqlalchemy', 'hdrh', 'tqdm'}"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_importing_kvlab_loads_nothing_heavy() -> None:
    code = f"import sys, kvlab, kvlab.instruments; print({HEAVY} & set(sys.modules) or 'light')"
    assert python(code) == "light"


def test_an_exploration_needs_no_matplotlib() -> None:
    code = (
        "import sys; from kvlab.instruments import explore\n"
        "story = explore([lambda kv: kv.incr('n')], invariant=lambda world: False)\n"
        "print(len(str(story)) > 0, 'matplotlib' in sys.modules)"
    )
    assert python(code) == "True False"


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import kvlab.instruments as i\n"
        "try: i.Origin\n"
        "except ModuleNotFoundError as e: print(e)"
    )
    assert python(code) == ('kvlab.instruments.Origin needs sqlalchemy: pip install "kvlab[lab]"')


@pytest.mark.parametrize("name", instruments.__all__)
def test_every_public_name_is_there_under_any_order_of_imports(name: str) -> None:
    first = getattr(instruments, name)
    for other in instruments.__all__:
        getattr(instruments, other)
    assert getattr(instruments, name) is first
    assert name in dir(instruments)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        instruments.nonsense  # noqa: B018


def test_a_name_of_earlier_scripts_is_the_thing_that_it_names_now() -> None:
    assert instruments.run is instruments.experiment
    assert instruments.Verdict is instruments.AdmissionVerdict
