"""What a Binder session needs besides: it has about 2 GB, and a kernel of this course takes 0.3.

Read after tools/jupyter_server_config.py: binder/start names both folders. `make lab` does not read
it, because at home a kernel that ends by itself is a loss without a gain.
"""

c = get_config()  # noqa: F821 (Jupyter runs this file with that name defined)
# A kernel ends if nothing has run in it for half an hour, also while its notebook is open: a reader
# who goes from one notebook to the next leaves them open. A picture that is used counts as running.
c.MappingKernelManager.cull_idle_timeout = 30 * 60
c.MappingKernelManager.cull_interval = 60
c.MappingKernelManager.cull_connected = True
