"""`import sftviz` is light: of the heavy libraries it loads torch alone."""

HEAVY = "matplotlib ipywidgets anywidget IPython traitlets"
_LOADED = f"import sys; print(*[name for name in {HEAVY.split()} if name in sys.modules])"


def loaded(python, statements):
    run = python("-c", f"{statements}; {_LOADED}")
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_import_leaves_the_heavy_libraries_alone(python):
    """So does training and drawing; numpy is not loaded by this package."""
    statements = (
        "import torch; before = 'numpy' in sys.modules; import sftviz; "
        "assert before or 'numpy' not in sys.modules; "
        "trace = sftviz.WORKED_EXAMPLE.trace(); "
        "sftviz.step_flow(trace)._repr_mimebundle_(); sftviz.key_formula(trace).svg"
    )
    assert loaded(python, f"import sys; {statements}") == []


def test_and_that_test_can_fail(python):
    assert "matplotlib" in loaded(python, "import sftviz.drawing.mpl")


def test_names_that_are_not_there_are_refused_as_usual():
    import sftviz

    try:
        sftviz.nonsense  # noqa: B018
    except AttributeError as error:
        assert str(error) == "module 'sftviz' has no attribute 'nonsense'"
    else:
        raise AssertionError
