"""How the course's notebooks are exported: each explorer as its picture, with no network needed.

Jupyter reads this file where `--config` names it, or JUPYTER_CONFIG_PATH its folder, as `make lab`
and Binder do; there it is also for what JupyterLab's File menu exports.
"""

c = get_config()  # noqa: F821 (Jupyter runs this file with that name defined)
# A notebook that `nbconvert --execute`, `jupyter execute` or papermill has run contains the state
# of its widgets. A page with that state fetches a program from another host, which draws sliders
# that do nothing, and it leaves out the pictures. What is said of cells is kept: slides need it.
c.ClearMetadataPreprocessor.enabled = True
c.ClearMetadataPreprocessor.clear_cell_metadata = False
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {
    *("kernelspec", "language_info", "title", "authors"),
}
# What is there for the tests of the course alone.
c.TagRemovePreprocessor.enabled = True
c.TagRemovePreprocessor.remove_input_tags = {"remove-input", "hide-input"}
