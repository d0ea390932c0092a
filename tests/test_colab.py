"""Google Colab has ipywidgets 7, and asks for its permission to show widgets that are not its own.

Nothing here runs on Colab. The other tests of widgets pass with ipywidgets 7.7 as well: a job in
.github/workflows/test.yml runs them.
"""

from textwrap import dedent
from unittest.mock import Mock

import ipywidgets
from IPython.core.formatters import DisplayFormatter

from sftviz import StepExplorer

VIEW = "application/vnd.jupyter.widget-view+json"


def test_the_bundle_is_shown_also_where_ipywidgets_is_7(monkeypatch):
    monkeypatch.delattr(ipywidgets.Widget, "_repr_mimebundle_", raising=False)
    shows_the_view = Mock()  # ipywidgets 7: by a method of its own
    monkeypatch.setattr(ipywidgets.Widget, "_ipython_display_", shows_the_view, raising=False)
    data, _ = DisplayFormatter().format(StepExplorer())
    assert {VIEW, "text/html", "text/plain"} <= set(data)
    assert not shows_the_view.called


def test_on_colab_the_widgets_of_others_are_enabled(python):
    # As Colab's kernel has it: anywidget finds the module, and calls what is in it.
    code = """
        import sys, types
        output = sys.modules["google.colab.output"] = types.ModuleType("output")
        output._widgets = types.SimpleNamespace(_installed_url=None)
        def enable():
            output._widgets._installed_url = "the manager"
        output.enable_custom_widget_manager = enable
        from sftviz import StepExplorer
        data, metadata = StepExplorer()._repr_mimebundle_()
        view = "application/vnd.jupyter.widget-view+json"
        print(view in data, metadata[view]["colab"]["custom_widget_manager"]["url"])
    """
    assert python("-c", dedent(code)).stdout.split() == ["True", "the", "manager"]
